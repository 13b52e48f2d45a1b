"""A process of ours ends when it is told to, whatever its work does: real processes and real signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from process.signals import STOP_SECS

PRELUDE = """
import asyncio, sys, time
from process import signals
from process.logs import set_up_logging
from broker.errors import BrokerError, Unavailable
signals.STOP_SECS, signals.LAST_WORDS_SECS = {stop_secs}, 0.2
set_up_logging("info")
def ready(): print("ready", flush=True)
"""
RUN = "\nsys.exit(signals.run_until_signal(work(), expected=BrokerError))"

ORDERLY = """
async def work():
    try:
        ready()
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.2)
        print("cleaned up", flush=True)
"""
DEAF = """
async def work():
    ready()
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("cancelled", flush=True)
"""
BLOCKED = """
async def work():
    ready()
    time.sleep(60)
"""
HANGING_THREAD = """
async def work():
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
    ready()
    await asyncio.sleep(60)
"""
BROKER_FAILS_ON_THE_WAY_OUT = """
async def work():
    async with asyncio.TaskGroup():
        try:
            ready()
            await asyncio.sleep(60)
        finally:
            raise Unavailable("frozen")
"""

HANGING = {"deaf": DEAF, "blocked": BLOCKED, "thread": HANGING_THREAD}
SLOW = {**HANGING, "cleaning up": ORDERLY.replace("0.2", "60")}


@contextmanager
def running(work: str, stop_secs: float = 1) -> Iterator["subprocess.Popen[str]"]:
    """A process that does this work, from the moment when it does."""
    script = PRELUDE.format(stop_secs=stop_secs) + work + RUN
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=pipe,
        stderr=pipe,
        text=True,
        env={**os.environ, "PYTHONPATH": "."},
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit status and what was said."""
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_an_orderly_end(sig: signal.Signals) -> None:
    with running(ORDERLY) as process:
        process.send_signal(sig)
        assert ended(process) == (0, "cleaned up\n", "")


@pytest.mark.parametrize("work", HANGING.values(), ids=HANGING)
def test_the_end_comes_whatever_the_work_does(work: str) -> None:
    with running(work) as process:
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        status, _, err = ended(process)
    assert 0.9 < time.monotonic() - begun < 5
    assert status == 0
    assert "Traceback" not in err


def test_it_is_told_what_does_not_end() -> None:
    with running(DEAF) as process:
        process.send_signal(signal.SIGTERM)
        _, out, err = ended(process)
    assert out == "cancelled\n"  # once: what cleans up is not disturbed again and again
    assert "no orderly end within 1 s, still running: 1 run_until_signal.<locals>.main, 1 work" in err


@pytest.mark.parametrize("work", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_it_at_once(work: str, sig: signal.Signals) -> None:
    with running(work, stop_secs=30) as process:
        process.send_signal(sig)
        time.sleep(
            0.2
        )  # two signals of a kind that come together are one: nothing tells that the first was taken
        begun = time.monotonic()
        process.send_signal(sig)
        status, out, err = ended(process)
    assert time.monotonic() - begun < 5
    assert status == 128 + sig
    assert "cleaned up" not in out
    assert err == ""


def test_a_broker_that_fails_on_the_way_out_is_no_failure_of_ours() -> None:
    with running(BROKER_FAILS_ON_THE_WAY_OUT) as process:
        process.send_signal(signal.SIGTERM)
        status, _, err = ended(process)
    assert status == 0
    assert err.endswith("frozen\n")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("work", "words"),
    [
        ('raise Unavailable("no server")', "ERROR"),
        ('raise ExceptionGroup("", [ExceptionGroup("", [Unavailable("no server")])])', "ERROR"),
        ('raise ExceptionGroup("", [Unavailable("no server"), KeyError()])', "Traceback"),
        ("raise KeyError()", "Traceback"),
    ],
)
def test_a_failure_is_told_and_is_the_exit_status(work: str, words: str) -> None:
    with running(f"async def work():\n    ready()\n    {work}\n") as process:
        status, _, err = ended(process)
    assert status == 1
    assert words in err
    assert ("Traceback" in err) == (words == "Traceback")


def test_the_deadline_is_before_dockers() -> None:
    assert STOP_SECS <= 9
