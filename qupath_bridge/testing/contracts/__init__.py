"""Contract suites: one class for each exchangeable part, subclassed for every backend."""
