"""QuPath's data files (``data.qpdata``), read and written without Java."""
