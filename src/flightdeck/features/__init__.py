"""A windowed feature is declared once and executed offline, online and in the audit, with equal values."""
