"""How work is spread over a machine."""
