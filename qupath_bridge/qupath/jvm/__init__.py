"""QuPath's own Java classes, used through paquo in a child process."""
