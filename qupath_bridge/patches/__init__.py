"""Pure functions for boxes, labels and ids of patches."""
