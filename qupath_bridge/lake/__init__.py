"""Runs below one root: a catalogue of them, and one copy of their patches in few files."""
