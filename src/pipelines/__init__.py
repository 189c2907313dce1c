"""The use case: flight-delay risk on the flights that left New York City in 2013."""
