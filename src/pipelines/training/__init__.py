"""Challenger, fallback model and rules from one training set, exported, measured and packed as a draft bundle."""
