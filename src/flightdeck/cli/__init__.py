"""Commands of the `kedro` command line: parse, call, print."""
