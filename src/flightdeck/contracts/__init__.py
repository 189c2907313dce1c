"""Stage contracts: what each stage reads, writes and promises, and the linter that holds them to the project."""
