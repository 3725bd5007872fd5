"""Plan, export and verify: the other packages put together."""
