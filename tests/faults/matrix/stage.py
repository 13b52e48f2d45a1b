"""The real processes of one cell: the servers, gateways and workers as operators start them, or `up` as users do."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import psutil

from gpu_worker.ffmpeg import ffmpeg
from tests.faults.matrix.cells import Cell, Fault, Part, Phase
from tests.faults.matrix.cluster import Cluster
from tests.faults.matrix.proxy import Proxy
from tests.support.system import Gateway, Process, System

ROOT = Path(__file__).parents[3]
GATED_ENGINE = Path(__file__).with_name("gated_engine.py")
FFMPEG_RATE = 2
"""The real ffmpeg reads its input at twice the speed of playing, so that there is time to meet it."""
END_SECS = 20
ORPHAN_SECS = 5
"""So long after the end of `up` its parts may take to end."""
INTERRUPTED = 130
"""Exit status after Ctrl-C."""
COMMAND = Path(sys.executable).with_name("whisper-jetstream")


class Stage(Protocol):
    """What a cell is played on."""

    died: list[str]
    """What ended by itself, or with a bad exit status."""
    left_behind: list[str]
    """Processes that outlived the one that had started them and was killed."""
    nats_urls: list[str]
    folder: Path

    def url(self) -> str:
        """Where clients go now: as a load balancer would send them."""

    def workers(self) -> list[psutil.Process]: ...

    def victims(self, part: Part) -> list[psutil.Process]:
        """The processes that the fault hits; the first is the one that gets signals which end it."""

    def is_asked_to_end(self, pid: int) -> None:
        """From here on clients are sent to the others, and its end is no surprise."""

    def has_ended(self, cell: Cell) -> None:
        """Wait for the end of what was asked to end. Raises subprocess.TimeoutExpired."""

    def started_again(self, cell: Cell) -> None:
        """What ended is started again, where nothing of the product itself does that."""

    def close(self) -> None:
        """Stop everything in order; what lives on is for the caller to find."""

    def logs(self) -> str: ...


def environment(cell: Cell, folder: Path) -> dict[str, str]:
    """What workers and gateways are started with, in every kind of stage."""
    gate = folder / "gate"
    gate.mkdir(exist_ok=True)
    env = {
        "JOB_ACK_WAIT_SECS": str(cell.ack_wait_secs),
        "STRETCH_SECS": "30",
        "JOBS_WHEN_UNLOADED": "queue",
        "WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
        "WEBHOOK_BACKOFF": "3,3,3,3,3,3",
        "SPOOL_DIR": str(folder / "spool"),
        "ENGINE_COMMAND": shlex.join([sys.executable, str(GATED_ENGINE), str(gate)]),
        "PYTHONPATH": str(ROOT),
        "NATS_REPLICAS": str(cell.servers),
        "LOG_LEVEL": "info",
    }
    if cell.phase is Phase.PREPARING:
        env["PATH"] = f"{_slow_ffmpeg(folder / 'bin')}:{os.environ['PATH']}"
    return env


def _slow_ffmpeg(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / "ffmpeg"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(ffmpeg())} -readrate {FFMPEG_RATE} "$@"\n')
    program.chmod(0o755)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children_named(processes: list[psutil.Process], word: str) -> Iterator[psutil.Process]:
    """Their descendants with this word in the command line, engines and ffmpeg for example."""
    for process in processes:
        try:
            for child in process.children(recursive=True):
                if word in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                    yield child
        except psutil.NoSuchProcess:
            continue


WORDS = {Part.ENGINE: GATED_ENGINE.name, Part.FFMPEG: "_whitelist"}
"""By which the children of a worker are known. Of ffmpeg one of its arguments: before it is ffmpeg it is our script."""


class ServerStage:
    """nats-server (one or three), gateways and workers, each a process that is started by itself."""

    def __init__(self, cell: Cell, folder: Path, model: Path) -> None:
        self.folder, self.died, self.left_behind = folder, list[str](), list[str]()
        self._env = environment(cell, folder)
        self.cluster = Cluster(folder / "cluster") if cell.servers > 1 else None
        self.system = System(folder, model, self.cluster.start() if self.cluster else None)
        if self.cluster:
            self.cluster.wait_until_ready()
        self.nats_urls = self.cluster.urls if self.cluster else [self.system.nats.url]
        self._url_of_ours = ",".join(self.nats_urls)
        self.proxy: Proxy | None = None
        if cell.phase in (Phase.ENDING, Phase.ACKING):
            self.proxy = Proxy(self.system.nats.url)
        self._asked_to_end: set[int] = set()
        self.gateways: list[Gateway] = []
        self._workers: list[Process] = []
        self._all: list[Process] = []
        for _ in range(cell.instances if cell.part is Part.GATEWAY else 1):
            self._start_gateway()
        for _ in range(cell.instances if cell.part is Part.WORKER else 1):
            self._start_worker()

    def url(self) -> str:
        return self.gateways[0].url

    def workers(self) -> list[psutil.Process]:
        return [psutil.Process(worker.pid) for worker in self._workers if worker.status is None]

    def victims(self, part: Part) -> list[psutil.Process]:
        match part:
            case Part.GATEWAY:
                pids = [self.gateways[0].pid]
            case Part.WORKER:
                busy = [w for w in self.workers() if any(children_named([w], ""))]
                return (busy or self.workers())[:1]
            case Part.NATS:
                pids = [self.system.nats.pid]
            case Part.ENGINE | Part.FFMPEG:
                return [*children_named(self.workers(), WORDS[part])][:1]
            case Part.UP:
                raise ValueError("`up` has a stage of its own")
        return [psutil.Process(pid) for pid in pids]

    def is_asked_to_end(self, pid: int) -> None:
        self._asked_to_end.add(pid)
        self.gateways.sort(key=lambda gateway: gateway.pid == pid)

    def has_ended(self, cell: Cell) -> None:
        for process in [p for p in self._all if p.pid in self._asked_to_end]:
            status = process.wait(END_SECS)
            if cell.fault is not Fault.KILL and status != 0:
                self.died.append(f"{process.log.stem} ended with status {status} after SIGTERM")
        if cell.part is Part.NATS:
            self.system.nats.stop()

    def started_again(self, cell: Cell) -> None:
        match cell.part:
            case Part.GATEWAY if cell.instances == 1:
                self._start_gateway()
                self.gateways.reverse()
            case Part.WORKER if cell.instances == 1:
                self._start_worker()
            case Part.NATS:
                self.system.nats.start()
            case _:
                return

    def close(self) -> None:
        self.died += self.unexpected_ends()
        for process in reversed(self._all):
            if process.status is None and (status := process.stop()) != 0:
                self.died.append(f"{process.log.stem} ended with status {status} after SIGTERM")
        if self.proxy is not None:
            self.proxy.close()
        if self.cluster is not None:
            self.cluster.stop()
        self.system.nats.stop()

    def unexpected_ends(self) -> list[str]:
        return [
            f"{p.log.stem} ended by itself with status {p.status}"
            for p in self._all
            if p.status is not None and p.pid not in self._asked_to_end
        ]

    def logs(self) -> str:
        return self.system.logs()

    def _start_gateway(self) -> None:
        gateway = self.system.gateway(**self._env, NATS_URL=self._url_of_ours)
        self.gateways.append(gateway)
        self._all.append(gateway)

    def _start_worker(self) -> None:
        url = self.proxy.url if self.proxy else self._url_of_ours
        worker = self.system.worker(**self._env, NATS_URL=url, WORKER_ID=f"w{len(self._workers) + 1}")
        self._workers.append(worker)
        self._all.append(worker)


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
