"""What happened and when it became known: event log, contracts, quarantine, freshness."""
