"""QuPath projects: read, listed, written."""
