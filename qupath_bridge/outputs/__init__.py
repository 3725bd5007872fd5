"""Where patches go."""
