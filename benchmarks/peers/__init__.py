"""Scripts that run in a peer's own environment; `lines.py` is the part that both sides share."""
