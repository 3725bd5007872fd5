"""Pixels from slide files."""
