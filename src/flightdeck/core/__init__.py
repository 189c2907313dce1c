"""What every room needs and nobody owns: errors, clock, identifiers, configuration, layout, column functions."""
