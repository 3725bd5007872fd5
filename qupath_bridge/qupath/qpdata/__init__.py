"""QuPath's own files, read and written without Java."""
