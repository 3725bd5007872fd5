"""Programs that make what the package carries. Nothing of them is installed."""
