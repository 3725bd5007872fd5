"""Exchangeable parts for qupath-bridge, as another package would add them."""
