"""One file a page; `app.py` runs the file of the page that is open from top to bottom."""
