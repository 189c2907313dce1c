"""The features of the use case: windowed ones declared (`views.py`), request-time ones written (`nodes.py`)."""
