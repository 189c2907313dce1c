"""The gate: the draft bundle against the thresholds of its risk tier, in an executed notebook that a person reads."""
