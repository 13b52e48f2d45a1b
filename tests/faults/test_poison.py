"""Messages that no worker can use end where they can be seen; the worker lives, and the next job is done."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nats

from tests.faults.test_whose_fault import check_innocent, queue
from tests.support.system import System
from tests.support.waiting import wait_until

POISON = {
    "invalid-utf-8": b'{"filename": "\xff"}',
    "no-json": b"not json",
    "deep": b"[" * 100_000,
    "deep-inside": b'{"options": {"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "near-the-limit": b'{"filename": "' + b"x" * (2**20 - 200) + b'"}',
    "unknown-field-near-the-limit": b'{"x": "' + b"x" * (2**20 - 200) + b'"}',
    "long-webhook": json.dumps({"webhook_url": "http://example.com/" + "x" * 700_000}).encode(),
    "absurd-time": b'{"created_at": "0001-01-01T00:00:00Z", "upload_secs": 1e308}',
}
NO_JOBS = ("unknown-field-near-the-limit",)
"""What is a job all the same, whose audio is missing."""


async def publish(url: str) -> None:
    client = await nats.connect(url)
    for job_id, body in POISON.items():
        await client.jetstream().publish(f"whisper.jobs.submit.{job_id}", body)
    await client.close()


def test_submissions_that_nobody_can_use(system: System) -> None:
    gateway = system.gateway()
    worker = system.worker()
    asyncio.run(publish(system.nats.url))
    check_innocent(gateway, queue(gateway))
    wait_until(lambda: gateway.http.get("/health").json()["queue_depth"] == 0)
    assert gateway.http.get("/health").json()["dead_letters"] >= len(POISON) - len(NO_JOBS) - 1
    assert "Traceback" not in worker.log.read_text()
    assert worker.stop() == 0


def start(folder: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """Start a worker in `folder`, whose packages come before the others."""
    command = [sys.executable, "-m", "gpu_worker"]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=30, check=False
    )


def test_what_is_missing_is_told_at_the_start(tmp_path: Path) -> None:
    """The package as it would be installed without its data file."""
    shutil.copytree(
        Path.cwd() / "gpu_worker", tmp_path / "gpu_worker", ignore=shutil.ignore_patterns("*.onnx")
    )
    done = start(tmp_path, PYTHONPATH=f"{tmp_path}:{Path.cwd()}", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "gpu_worker: There is no voice model at " in done.stderr
