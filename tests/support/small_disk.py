"""A disk of this machine that is full whenever a test wants it."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest

PIECE = 4096


class SmallDisk:
    """A file system of a few megabytes, mounted at ``folder``."""

    def __init__(self, folder):
        self.folder = folder
        self._filler = folder / "filler"

    def leave(self, room):
        """Fill the disk but for some bytes."""
        self.free()
        size = shutil.disk_usage(self.folder).free - room
        self._filler.write_bytes(bytes(max(0, size)))

    def free(self):
        """Remove what fills it."""
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(folder, size=4 << 20):
    """Give a new disk; skip the test where this user may not mount one."""
    if sys.platform != "linux" or os.geteuid() or shutil.which("mount") is None:
        pytest.skip("no small disk: a tmpfs is mounted by root on Linux")
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no small disk: mounting a tmpfs is not allowed here")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
