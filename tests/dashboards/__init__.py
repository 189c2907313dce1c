"""The dashboard: its readers and words, every page in Streamlit's own test harness, and all of it in a real browser."""
