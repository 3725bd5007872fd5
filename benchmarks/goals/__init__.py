"""The goals, one module per kind: each function measures some lines and returns findings."""
