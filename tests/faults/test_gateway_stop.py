"""SIGTERM of a gateway: it has ended in time, whatever is in flight and however dead nats-server is."""

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.test_http import stored_audio
from tests.support.http import events, submit
from tests.support.system import Gateway, System

DOCKER_SECS = 10
AT_ONCE_SECS = 5
"""Below the time that an orderly end may take."""
PIECE = b"x" * 65536


@contextlib.contextmanager
def upload_in_flight(gateway: Gateway) -> Iterator[socket.socket]:
    """A client that goes on sending as long as it is taken, without end."""
    client = socket.create_connection(address(gateway))
    head = "POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=xyz\r\n"
    form = '--xyz\r\nContent-Disposition: form-data; name="audio"; filename="big"\r\n\r\n'
    client.sendall(f"{head}Content-Length: 100000000000\r\n\r\n{form}".encode() + PIECE * 64)
    over = threading.Event()

    def send() -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.01):
                client.sendall(PIECE)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield client
    finally:
        over.set()
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        client.close()
        sender.join(10)


def address(gateway: Gateway) -> tuple[str, int]:
    return "127.0.0.1", int(gateway.url.rsplit(":", 1)[1])


def stop_in_time(gateway: Gateway) -> None:
    """It has ended soon, with exit status 0."""
    begun = time.monotonic()
    assert gateway.stop() == 0, gateway.log.read_text()
    took = time.monotonic() - begun
    assert took < DOCKER_SECS
    print(f"ended after {took:.1f} s")


def wait_for_chunks(system: System, url: str) -> None:
    """Until the upload is being stored."""
    deadline = time.monotonic() + 20
    while not asyncio.run(stored_audio(url)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("nats", ["well", "frozen", "killed"])
def test_with_everything_in_flight(system: System, nats: str) -> None:
    """An upload, an event stream of a job and one of the models, a client that reads nothing, and one that is idle."""
    gateway = system.gateway()
    job_id = submit(gateway.http, "a.wav", b"x")
    clients = [socket.create_connection(address(gateway)) for _ in range(4)]
    for client, path in zip(clients, (f"/jobs/{job_id}/stream", "/model/events", "/jobs", ""), strict=True):
        if path:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(12) == b"HTTP/1.1 200"
    with upload_in_flight(gateway):
        wait_for_chunks(system, system.nats.url)
        if nats == "frozen":
            system.nats.freeze()
        elif nats == "killed":
            system.nats.stop(signal.SIGKILL)
        stop_in_time(gateway)
    if nats == "well":
        assert "no orderly end" not in gateway.log.read_text()
        assert (
            asyncio.run(stored_audio(system.nats.url)) == 2
        )  # the queued job's: nothing stays of the upload
    system.nats.thaw()
    for client in clients:
        client.close()


def test_requests_that_wait_for_a_frozen_nats_server(system: System) -> None:
    gateway = system.gateway()
    job_id = submit(gateway.http, "a.wav", b"x")
    system.nats.freeze()
    answers: list[str] = []

    def ask(method: str, path: str) -> None:
        with contextlib.suppress(httpx.HTTPError):
            answers.append(httpx.request(method, f"{gateway.url}{path}", timeout=30).text)

    requests = (
        ("GET", "/jobs"),
        ("DELETE", f"/jobs/{job_id}"),
        ("GET", f"/jobs/{job_id}/stream"),
        ("GET", "/health"),
    )
    threads = [threading.Thread(target=ask, args=request) for request in requests]
    for thread in threads:
        thread.start()
    time.sleep(0.5)  # nothing tells that a request waits
    stop_in_time(gateway)
    system.nats.thaw()
    for thread in threads:
        thread.join(10)


def test_nats_server_goes_during_the_stop(system: System) -> None:
    gateway = system.gateway()
    with upload_in_flight(gateway):
        wait_for_chunks(system, system.nats.url)
        threading.Timer(1, system.nats.freeze).start()
        stop_in_time(gateway)
    system.nats.thaw()


def test_a_second_signal_ends_it_at_once(system: System) -> None:
    gateway = system.gateway()
    with upload_in_flight(gateway):
        wait_for_chunks(system, system.nats.url)
        system.nats.freeze()
        gateway.send(signal.SIGINT)
        time.sleep(0.5)
        begun = time.monotonic()
        assert gateway.stop(signal.SIGINT) == 128 + signal.SIGINT
        assert time.monotonic() - begun < AT_ONCE_SECS
    system.nats.thaw()
    assert "Traceback" not in gateway.log.read_text()


def test_event_streams_end_at_once_and_none_begins(system: System) -> None:
    """A client that is told to come back finds another gateway; it is not held here until it is cut."""
    gateway = system.gateway()
    job_id = submit(gateway.http, "a.wav", b"x")
    with upload_in_flight(gateway):  # which the gateway waits for
        wait_for_chunks(system, system.nats.url)
        stream = events(gateway.http, job_id)
        assert next(stream).event == "queued"
        begun = time.monotonic()
        gateway.send(signal.SIGTERM)
        assert list(stream) == []
        assert time.monotonic() - begun < AT_ONCE_SECS
        assert gateway.wait(DOCKER_SECS) == 0
