"""Other programs, each in an environment of its own, on the same patches.

The files ``with_*.py`` run there: they import nothing from this project.
"""
