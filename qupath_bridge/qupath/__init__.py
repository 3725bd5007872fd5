"""QuPath's files: projects, data files and GeoJSON; and QuPath's own Java classes."""
