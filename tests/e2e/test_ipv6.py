"""The gateway and its webhooks over IPv6. A machine without it skips these; tests/unit/test_urls.py has the strings."""

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from process.listening import listen
from standalone import ports
from standalone.errors import StartError
from tests.support.http import submit
from tests.support.receiver import Receiver
from tests.support.system import System


def has_ipv6() -> bool:
    try:
        listen("::1", 0).close()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


class Receiver6(Receiver):
    """Listens on ::1."""

    family = socket.AF_INET6


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_a_gateway_listens_on_the_loopback(system: System, host: str) -> None:
    gateway = system.gateway(HOST=host)
    assert gateway.url.startswith("http://[::1]:")
    submit(gateway.http, "a", b"x")
    assert gateway.http.get("/health/live").status_code == 200


def test_a_gateway_listens_on_all_addresses(system: System) -> None:
    gateway = system.gateway(HOST="::")
    port = gateway.url.rsplit(":", 1)[1]
    assert gateway.url == f"http://[::]:{port}"
    for host in ("[::1]", "127.0.0.1"):
        assert httpx.get(f"http://{host}:{port}/jobs").status_code == 200


def test_the_host_of_a_webhook_is_bracketed(system: System) -> None:
    receiver = Receiver6(host="::1")
    gateway = system.gateway(HOST="::1", WEBHOOK_ALLOW_CIDRS="::1/128")
    url = f"http://name:p%40ss@[::1]:{receiver.port}/hook"
    job_id = submit(gateway.http, "a", b"x", webhook_url=url)
    assert gateway.http.delete(f"/jobs/{job_id}").status_code == 200
    headers, _ = receiver.next_of("cancelled")
    assert headers["host"] == f"[::1]:{receiver.port}"
    assert headers["authorization"] == "Basic bmFtZTpwQHNz"
    receiver.close()


def test_a_port_that_is_taken_is_named_with_brackets() -> None:
    with listen("::1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"another program listens on \[::1\]:{port};"):
            ports.listen("::1", port)


@pytest.mark.parametrize("host", ["::1", "::"])
def test_up_listens_and_says_where(tmp_path: Path, demo_model: Path, host: str) -> None:
    """It has asked its own gateway over that URL before it says that it is up."""
    env = {"HOST": host, "PORT": "0", "NATS_PORT": "-1", "COLUMNS": "200", "WHISPER_USE_GPU": "false"}
    env |= {"WHISPER_MODEL": "demo", "WHISPER_MODEL_PATH": str(demo_model), "PATH": "/usr/bin:/bin"}
    env |= {"DATA_DIR": str(tmp_path / "data"), "SPOOL_DIR": str(tmp_path / "spool"), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "standalone.cli", "up"]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            said = next(line for line in process.stdout if "is up" in line)
            url = said.partition("is up: ")[2].split()[0]
            assert url.startswith(f"http://[{host}]:")
            assert httpx.get(f"{url}/health/ready").status_code == 200
        finally:
            process.terminate()
            process.communicate(timeout=20)
