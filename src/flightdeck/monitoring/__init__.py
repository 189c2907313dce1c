"""Watching a released model: labels, quality, drift, skew, freshness; what breaks its bounds becomes an alert."""
