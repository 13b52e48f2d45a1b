"""Real file systems: of a few megabytes, and read-only ones."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def exhaust(folder: Path) -> Path:
    """A file that takes all the room of a disk, to the last byte."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 65536)
    return ballast


class ReadOnly:
    """A folder that can be made read-only, for root as well."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def set(self, is_read_only: bool) -> None:
        mode = "ro" if is_read_only else "rw"
        subprocess.run(["mount", "-o", f"remount,{mode},bind", str(self._folder)], check=True)


@contextmanager
def read_only_disk(folder: Path) -> Iterator[ReadOnly]:
    folder.mkdir()
    bound = subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True, check=False)
    if bound.returncode:
        pytest.skip(f"nothing can be mounted here: {bound.stderr.decode().strip()}")
    disk = ReadOnly(folder)
    disk.set(True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
