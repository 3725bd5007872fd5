"""QuPath's files: projects, data files, GeoJSON, and QuPath's own classes."""
