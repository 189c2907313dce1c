"""What happens to a request: the same nodes that made the training set."""
