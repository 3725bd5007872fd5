"""QuPath's own classes, reached through paquo, in a child process."""
