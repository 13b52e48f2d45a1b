"""Stand-ins for the decoder process, by which faults are injected: shell scripts that may become the real one."""

import shlex
import sys
from pathlib import Path

REAL = shlex.join([sys.executable, "-m", "gpu_worker.audio.decoder"])
SLOW = shlex.join([sys.executable, "-m", "tests.support.slow_decoder"])
"""Takes half the length of the audio."""


def decoder(path: Path, body: str) -> dict[str, str]:
    """Write the script. Returns the worker's setting. `$1` is `check` where a worker only looks whether it starts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return {"DECODER_COMMAND": shlex.quote(str(path))}
