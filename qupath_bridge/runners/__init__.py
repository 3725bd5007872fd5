"""Runners: they spread the slides of a run over cores and machines."""
