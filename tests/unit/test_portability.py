"""What only Linux has is not needed: each such call is taken away, as on macOS."""

import os
import socket
import sys
from types import SimpleNamespace

import pytest

from gateway.app import listening_socket
from gateway.settings import GatewaySettings
from gpu_worker.settings import WorkerSettings, usable_cpus
from process import child_process


def test_threads_without_a_cpu_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cpus() == os.cpu_count()
    assert 1 <= WorkerSettings().threads() <= (os.cpu_count() or 1)


async def test_a_child_without_a_parent_death_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "_libc", SimpleNamespace())
    process = await child_process.start([sys.executable, "-c", "raise SystemExit(7)"])
    assert await process.wait() == 7


def test_a_socket_without_a_user_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)
    listening = listening_socket(GatewaySettings(host="127.0.0.1", port=0))
    with socket.socket(fileno=listening) as found:
        assert found.getsockname()[1] > 0
