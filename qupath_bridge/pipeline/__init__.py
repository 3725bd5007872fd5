"""Plan, export, verify, provenance: the parts put together."""
