"""Three real nats-servers in a cluster, as nats/cluster.conf has them but for users and TLS."""

import socket
from contextlib import ExitStack
from pathlib import Path

from tests.support.nats_process import NatsProcess

SERVERS = 3
CONFIG = """
server_name: n{number}
jetstream {{ max_file_store: 200MB }}
cluster {{ name: whisper, listen: "127.0.0.1:{port}", routes: [{routes}] }}
"""


class Cluster:
    def __init__(self, folder: Path) -> None:
        ports = _free_ports(SERVERS)
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        self.servers = [
            NatsProcess(folder / f"n{number}", CONFIG.format(number=number, port=port, routes=routes))
            for number, port in enumerate(ports, 1)
        ]

    @property
    def url(self) -> str:
        return ", ".join(server.url for server in self.servers)

    def start(self) -> None:
        for server in self.servers:
            server.start()

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


def _free_ports(count: int) -> list[int]:
    """All different: each is held until the last is found."""
    with ExitStack() as held:
        found = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(sock.getsockname()[1]) for sock in found]
