"""Three nats-servers on the loopback address that are one JetStream cluster."""

import signal
import socket
from pathlib import Path

from tests.support.nats_process import NatsProcess

SIZE = 3


class Cluster:
    def __init__(self, folder: Path) -> None:
        ports = _free_ports(SIZE)
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
        self.nodes = {
            f"n{number}": NatsProcess(
                folder / f"n{number}",
                f"server_name: n{number}\n"
                f"cluster {{ name: whisper, listen: 127.0.0.1:{port}, routes: [{routes}] }}\n",
            )
            for number, port in enumerate(ports, 1)
        }

    def start(self) -> NatsProcess:
        """Start all but the first, which is given back: whoever gets it starts it."""
        first, *others = self.nodes.values()
        for node in others:
            node.start()
        return first

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes.values()]

    def stop(self) -> None:
        for node in self.nodes.values():
            node.thaw()
            node.stop(signal.SIGTERM)


def _free_ports(count: int) -> list[int]:
    """Different ones: all are open at once."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
