"""The whole house, as its users walk through it."""
