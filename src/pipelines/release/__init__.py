"""From a draft that passed its gate to a sealed, registered release candidate."""
