"""Java object streams, read and written. Knows nothing of QuPath."""
