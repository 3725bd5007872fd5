"""``python -m qupath_bridge``: the command line, where the program is not on the path."""

import sys

from .cli import program

if __name__ == "__main__":
    sys.exit(program())
