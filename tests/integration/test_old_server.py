"""A server that is too old is told at the start, not by jobs that never end."""

import asyncio
import json

import pytest

from broker.connection import connect
from broker.errors import Refused
from broker.settings import BrokerSettings


async def old_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """So much of nats-server 2.10 as a client sees of it before its first request."""
    writer.write(b"INFO %s\r\n" % json.dumps({"version": "2.10.29", "max_payload": 1048576}).encode())
    while line := await reader.readline():
        if line.startswith(b"PING"):
            writer.write(b"PONG\r\n")
    writer.close()


async def test_it_is_refused() -> None:
    async with await asyncio.start_server(old_server, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Refused, match=r"nats-server 2\.11 or later is needed, this is 2\.10"):
            async with connect(BrokerSettings(nats_url=f"nats://127.0.0.1:{port}"), "test"):
                pytest.fail("a connection was made")
