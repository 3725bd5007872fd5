"""The way back to QuPath: provenance, status, write-back."""
