"""`Expect: 100-continue`, on a raw socket: a refusal comes before the body, and `100 Continue` only where the body is wanted."""

import json
import socket
from collections.abc import Iterator

import pytest

from tests.support.system import Gateway, System

PATIENCE_SECS = 2.5
"""Less than a refused upload is read on for: a client that waits has nothing to be read, and its connection ends at once."""
AUDIO = b"x" * 100


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("expect")
    system = System(folder, folder / "no-model")
    try:
        yield system
    finally:
        system.close()


@pytest.fixture(scope="module")
def gateway(system: System) -> Gateway:
    """It takes jobs at any time, up to 1,000 bytes."""
    return system.gateway(MAX_UPLOAD_BYTES="1000")


def connected(gateway: Gateway) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1])))
    client.settimeout(PATIENCE_SECS)
    return client


def head(target: str = "/jobs", *, length: int = len(AUDIO), **fields: str) -> bytes:
    named = {"Content_Type": "audio/mpeg", **fields}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in named.items()]
    start = [f"POST {target} HTTP/1.1", "Host: x", f"Content-Length: {length}", "Expect: 100-continue"]
    return "\r\n".join([*start, *lines, "", ""]).encode()


def answer(client: socket.socket) -> bytes:
    """One answer with its JSON, on a connection that goes on."""
    read = b""
    while not read.endswith(b"}"):
        read += client.recv(65536)
    return read


def refused(gateway: Gateway, sent: bytes) -> tuple[int, str]:
    """Status and code of what comes before the end of the connection, which ends without a byte of the body."""
    said = b""
    with connected(gateway) as client:
        client.sendall(sent)
        while piece := client.recv(65536):
            said += piece
    first, _, rest = said.partition(b"\r\n")
    assert b"connection: close" in rest.lower()
    return int(first.split()[1]), json.loads(said.partition(b"\r\n\r\n")[2])["code"]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (head(length=2000), (413, "request_too_large")),
        (head("/jobs?sparkle=1"), (422, "invalid_option")),
        (head("/jobs?webhook_url=http://10.0.0.1/"), (422, "webhook_refused")),
        (head(Content_Type="text/plain"), (415, "unsupported_media_type")),
        (head(Content_Encoding="gzip"), (415, "unsupported_media_type")),
        (head(Idempotency_Key="ä"), (400, "invalid_request")),
        (head("/nothing"), (404, "not_found")),
    ],
)
def test_a_refusal_comes_before_the_body(gateway: Gateway, sent: bytes, expected: tuple[int, str]) -> None:
    assert refused(gateway, sent) == expected


def test_where_no_worker_is_there_503_comes_before_the_body(system: System) -> None:
    refusing = system.gateway(JOBS_WHEN_UNLOADED="refuse")
    assert refused(refusing, head()) == (503, "model_not_ready")


def test_where_the_body_is_wanted_the_client_is_told_once(gateway: Gateway) -> None:
    with connected(gateway) as client:
        for _ in range(2):
            client.sendall(head())
            assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(AUDIO)
            taken = answer(client)
            assert taken.startswith(b"HTTP/1.1 202")
            assert b"connection: close" not in taken.lower()


def test_who_does_not_wait_is_not_told(gateway: Gateway) -> None:
    with connected(gateway) as client:
        client.sendall(head() + AUDIO)
        assert answer(client).startswith(b"HTTP/1.1 202")
        client.sendall(head("/nothing") + AUDIO)
        assert answer(client).startswith(b"HTTP/1.1 404")


def test_where_the_broker_is_away_503_comes_before_the_body(system: System, gateway: Gateway) -> None:
    """The last test: the others need nats-server."""
    system.nats.stop()
    while gateway.http.get("/jobs").status_code != 503:
        pass
    assert refused(gateway, head()) == (503, "broker_unavailable")
