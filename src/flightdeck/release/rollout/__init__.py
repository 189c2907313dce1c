"""The controller of a rollout: from what was served to a verdict, from a verdict to the next step or the way back."""
