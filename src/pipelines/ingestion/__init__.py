"""Sources to typed events on one exact time axis."""
