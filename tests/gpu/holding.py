"""Another process that holds VRAM, as a game or another model does."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOLDER = Path(__file__).with_name("vram_holder.py")


@contextmanager
def holding(free_mib: int) -> Iterator[subprocess.Popen[bytes]]:
    """It takes all VRAM but so much, and gives it back at the end, or when it is killed before."""
    process = subprocess.Popen([sys.executable, str(HOLDER), str(free_mib)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holding\n"
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
