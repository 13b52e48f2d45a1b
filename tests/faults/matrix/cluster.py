"""Three nats-servers on the loopback address that are one JetStream cluster."""

import asyncio
import signal
import socket
from pathlib import Path

import nats
import nats.errors
from nats.js.api import StreamConfig
from nats.js.errors import APIError

from tests.support.nats_process import NatsProcess

SIZE = 3
READY_SECS = 30
PROBE = "PROBE"


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

    def wait_until_ready(self) -> None:
        """All three are known to each other: a stream with a replica on each can be made. Raises TimeoutError."""
        asyncio.run(_make_a_stream(self.urls))

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes.values()]

    def stop(self) -> None:
        for node in self.nodes.values():
            node.thaw()
            node.stop(signal.SIGTERM)


async def _make_a_stream(urls: list[str]) -> None:
    client = await nats.connect(urls)
    js = client.jetstream(timeout=1)
    try:
        async with asyncio.timeout(READY_SECS):
            while True:
                try:
                    await js.add_stream(StreamConfig(name=PROBE, subjects=[PROBE], num_replicas=SIZE))
                    await js.delete_stream(PROBE)
                    return
                except (nats.errors.Error, APIError) as error:
                    print(f"the cluster is not ready: {error!r}")
                    await asyncio.sleep(0.1)
    finally:
        await client.close()


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
