"""NATS_URL: several servers, of which some are down or frozen; a server that does not want us."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.connection import connect, reconnected
from broker.errors import Refused
from broker.settings import BrokerSettings
from tests.support.nats_process import NatsProcess

ONE_USER = 'authorization { user: "whisper", password: "secret" }'


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address that refuses connections, and stays refused: the port is bound, but nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"nats://127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize("written", ["{down},{up}", " {down} , {up} ", "{up},{down},", "{down} ,, {up}"])
async def test_any_server_of_the_list_will_do(nats_process: NatsProcess, nowhere: str, written: str) -> None:
    url = written.format(up=nats_process.url, down=nowhere)
    async with connect(BrokerSettings(nats_url=url, nats_connect_timeout_secs=10), "test") as (client, js):
        assert (await js.account_info()).streams == 0
        assert client.connected_url is not None
        assert client.connected_url.geturl() == nats_process.url


async def test_a_frozen_server_is_passed_over(nats_process: NatsProcess, tmp_path: Path) -> None:
    frozen = NatsProcess(tmp_path / "frozen")
    frozen.start()
    frozen.freeze()
    try:
        url = ",".join([frozen.url] * 3 + [nats_process.url])  # nats-py shuffles them
        async with connect(BrokerSettings(nats_url=url, nats_connect_timeout_secs=10), "test") as (client, _):
            assert client.connected_url is not None
            assert client.connected_url.geturl() == nats_process.url
    finally:
        frozen.thaw()
        frozen.stop()


async def test_the_other_server_takes_over(nats_process: NatsProcess, tmp_path: Path) -> None:
    other = NatsProcess(tmp_path / "other")
    other.start()
    url = f"{nats_process.url},{other.url}"
    async with connect(BrokerSettings(nats_url=url), "test") as (client, js):
        first = client.connected_url
        assert first is not None
        (nats_process if first.geturl() == nats_process.url else other).stop()
        await reconnected(js)
        assert client.connected_url != first
    other.stop()


async def test_a_wrong_password_is_told_at_once(tmp_path: Path) -> None:
    server = NatsProcess(tmp_path / "server", ONE_USER)
    server.start()
    try:
        with pytest.raises(Refused, match="user and password"):
            async with connect(BrokerSettings(nats_url=server.url), "test"):
                pytest.fail("a connection was made")
    finally:
        server.stop()
