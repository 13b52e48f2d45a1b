"""`whisper-jetstream up`, as users start it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from process.exit_status import INTERRUPTED
from tests.faults.matrix.cells import Cell, Fault, Part
from tests.faults.matrix.stage import END_SECS, children_named, environment

ORPHAN_SECS = 5
"""So long after the end of `up` its parts may take to end."""
COMMAND = Path(sys.executable).with_name("whisper-jetstream")


class UpStage:
    """One `whisper-jetstream up` with everything that it starts."""

    def __init__(self, cell: Cell, folder: Path, model: Path) -> None:
        self.folder, self.died, self.left_behind = folder, list[str](), list[str]()
        self._port, self._nats_port, self._lives = free_port(), free_port(), 0
        self.nats_urls = [f"nats://127.0.0.1:{self._nats_port}"]
        self._env = {
            **os.environ,
            **environment(cell, folder),
            "HOME": str(folder / "home"),
            "PORT": str(self._port),
            "NATS_PORT": str(self._nats_port),
            "DATA_DIR": str(folder / "data"),
            "MODELS_DIR": str(folder / "models"),
            "WHISPER_MODEL": "demo",
            "WHISPER_MODEL_PATH": str(model),
            "COLUMNS": "200",
        }
        self._tree: list[psutil.Process] = []
        self._process = self._start()

    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def workers(self) -> list[psutil.Process]:
        return [*children_named([psutil.Process(self._process.pid)], "-m gpu_worker")][:1]

    def victims(self, part: Part) -> list[psutil.Process]:
        """`up` itself, and all that belongs to it: what is frozen is the whole tree, as `docker pause` does."""
        top = psutil.Process(self._process.pid)
        return [top, *top.children(recursive=True)]

    def is_asked_to_end(self, pid: int) -> None:
        self._tree = self.victims(Part.UP)

    def has_ended(self, cell: Cell) -> None:
        status = self._process.wait(END_SECS)
        if cell.fault is not Fault.KILL and status not in (0, INTERRUPTED):
            self.died.append(f"up ended with status {status} after its signal")
        _, alive = psutil.wait_procs(self._tree[1:], timeout=ORPHAN_SECS)
        for orphan in alive:
            if orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE:
                self.left_behind.append(f"{' '.join(orphan.cmdline())[-60:]} after the end of up")
                orphan.kill()  # so that the rest of the cell can be tried all the same
                orphan.wait(END_SECS)  # it is ours now (one.py), and a zombie would pass for alive

    def started_again(self, cell: Cell) -> None:
        self._process = self._start()

    def close(self) -> None:
        if (status := self._process.poll()) is not None:
            self.died.append(f"up ended by itself with status {status}")
            return
        self._process.send_signal(signal.SIGTERM)
        if (status := self._process.wait(END_SECS)) != 0:
            self.died.append(f"up ended with status {status} after SIGTERM")

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')}"
            for path in sorted(self.folder.glob("up-*.log"))
        )

    def _start(self) -> subprocess.Popen[bytes]:
        """Raises RuntimeError where it does not come up."""
        self._lives += 1
        log = self.folder / f"up-{self._lives}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen([str(COMMAND), "up"], env=self._env, stdout=sink, stderr=sink)
        deadline = time.monotonic() + 2 * END_SECS
        while "is up" not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError(f"`up` does not come up:\n{log.read_text(errors='replace')[-1000:]}")
            time.sleep(0.02)
        return process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
