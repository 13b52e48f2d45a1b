"""Real file systems of a few megabytes."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[Path]:
    """A real file system that can become full, on a new folder; skips the test where none can be mounted."""
    folder.mkdir()
    mount = shutil.which("mount")
    if sys.platform != "linux" or mount is None:
        pytest.skip("no tmpfs can be mounted here: this is no Linux")
    result = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if result.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {result.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, left: int) -> Path:
    """A file that takes all the room of a disk but `left` bytes."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        while shutil.disk_usage(folder).free > left:
            file.write(b"\0" * 2**20)
            file.flush()
    return ballast
