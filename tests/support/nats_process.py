"""A real nats-server with JetStream in a folder of its own, on a free port, that can be killed and started again."""

import signal
import subprocess
import time
from pathlib import Path

from standalone import nats_server

START_TIMEOUT_SECS = 10


class NatsProcess:
    def __init__(self, folder: Path, config: str = "", store: Path | None = None) -> None:
        """`config` is the text of a configuration file, for what no option of the command line sets."""
        self._folder, self._port, self._config = folder, -1, config
        self._store = store or folder / "store"
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the server that runs. Raises RuntimeError where none does."""
        if self._process is None:
            raise RuntimeError("no nats-server runs")
        return self._process.pid

    def start(self) -> None:
        """Start, on the same port as before; returns when it listens."""
        ports = self._folder / "ports"
        ports.mkdir(parents=True, exist_ok=True)
        command = nats_server.command(self._port, self._store, ports)
        if self._config:
            file = self._folder / "nats.conf"
            file.write_text(self._config)
            command += ["--config", str(file)]
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_SECS
        while (url := nats_server.url(ports, self._process.pid)) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "nats.log").read_text())
            time.sleep(0.005)
        self.url, self._port = url, int(url.rsplit(":", 1)[1])

    def freeze(self) -> None:
        """As a machine that hangs, or a network that is cut: connections stay, nothing answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(sig)
            self._process.wait(10)
            self._process = None
