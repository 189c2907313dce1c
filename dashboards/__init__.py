"""The Streamlit process: what is live, what waits for a decision, how healthy the day is. Never imports serving."""
