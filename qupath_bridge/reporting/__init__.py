"""The report of a run: one HTML page to look at, from records, index and slides."""
