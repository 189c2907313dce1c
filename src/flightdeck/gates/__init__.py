"""What a candidate must show before people look at it: checks, risk tiers, the gate notebook, verdicts."""
