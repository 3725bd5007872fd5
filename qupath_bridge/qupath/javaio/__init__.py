"""Reader and writer of Java object streams, independent of QuPath."""
