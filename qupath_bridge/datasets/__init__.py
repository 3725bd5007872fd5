"""Datasets to learn from: the index with its types, folds, and leaks between folds."""
