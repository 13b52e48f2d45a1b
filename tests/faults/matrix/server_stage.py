"""nats-server, gateways and workers, each started by itself, as operators do."""

from pathlib import Path

import psutil

from tests.faults.matrix.cells import Cell, Fault, Part, Phase
from tests.faults.matrix.cluster import Cluster
from tests.faults.matrix.proxy import Proxy
from tests.faults.matrix.stage import END_SECS, WORDS, children_named, environment
from tests.support.system import Gateway, Process, System


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
            case Part.ENGINE | Part.DECODER:
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
