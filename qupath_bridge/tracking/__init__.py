"""Datasets told to services that keep track of experiments."""
