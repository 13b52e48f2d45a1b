"""The ffmpeg command, which makes recordings for tests and benchmarks. The service itself has no use for it."""

import shutil
from pathlib import Path

import imageio_ffmpeg


def carried() -> str:
    """Return the program that the package imageio-ffmpeg carries."""
    [path] = (Path(imageio_ffmpeg.__file__).parent / "binaries").glob("ffmpeg-*")
    return str(path)


def on_path() -> str | None:
    """Return the program of this machine, if it has one."""
    return shutil.which("ffmpeg")


def ffmpeg() -> str:
    """Return the one that is there on every machine."""
    return carried()
