"""Is the canary worse than the champion? Tests that stay valid however often one looks, and the judge over them.

Pure: no I/O, no clock, no randomness. `judge.py` is the entrance; docs/judge.md tells what each test assumes.
"""
