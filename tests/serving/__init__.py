"""The service: a real process, real HTTP, a real bundle, ledger and store."""
