"""Random bytes and mutated valid messages on every subject and in every bucket of a running system.

FUZZ_SECS says for how long (`make fuzz`: a minute; 10 s in `make test`). Everything is on this machine: no sample names another
host, and no mutation makes one.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import subjects
from tests.support.http import AUDIO, finish, submit, words
from tests.support.jetstream import publish
from tests.support.samples import NONSENSE, Sample, samples
from tests.support.system import System

SECONDS = float(os.environ.get("FUZZ_SECS", "10"))
DOCUMENTED = {502, 503, 507}
"""The 5xx that docs/openapi.json has, but for 500, which is a mistake of ours."""
AT_A_TIME = 40

JOB_IDS = st.sampled_from([f"fuzz-{n}" for n in range(5)])
WEIRD: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            "",
            0,
            -1,
            2**63,
            2**64,
            -(2**63),
            1e308,
            5e-324,
            [],
            {},
            "x" * 5000,
            "\ud7ff",
            "\x00",
            "*",
            ">",
            "a.b",
        ]
    ),
    st.sampled_from(
        [
            "sparkle",
            "unknown",
            "queued",
            "done",
            "9999-12-31T23:59:59.999999-23:59",
            "0001-01-01T00:00:00+23:59",
        ]
    ),
    st.sampled_from(
        [
            "http://a..b/",
            "http://[::1",
            "http://127.0.0.1:99999/",
            "http://127.0.0.1:1/x?secret=1",
            "ftp://127.0.0.1/",
        ]
    ),
    st.integers(),
    st.lists(st.integers(), max_size=30),
)


@st.composite
def mutated(draw: st.DrawFn, sample: Sample) -> bytes:
    """A valid message in which one to three values are replaced, removed or added, anywhere."""
    document = json.loads(sample.body)
    for _ in range(draw(st.integers(1, 3))):
        at: Any = document
        while isinstance(at, dict | list) and at:
            keys: list[Any] = sorted(at) if isinstance(at, dict) else list(range(len(at)))
            key = draw(st.sampled_from(keys))
            if isinstance(at[key], dict | list) and at[key] and draw(st.booleans()):
                at = at[key]
                continue
            match draw(st.sampled_from(["replace", "remove", "add"])):
                case "replace":
                    at[key] = draw(WEIRD)
                case "remove":
                    del at[key]
                case _ if isinstance(at, dict):
                    at[draw(st.text(max_size=5))] = draw(WEIRD)
                case _:
                    at.append(draw(WEIRD))
            break
    return json.dumps(document).encode("utf-8", "surrogatepass")


@st.composite
def said(draw: st.DrawFn) -> tuple[str, bytes]:
    """A subject that something of ours reads, and what somebody says there."""
    sample = draw(st.sampled_from(samples(draw(JOB_IDS))))
    body = draw(
        st.one_of(st.binary(max_size=200), st.sampled_from(NONSENSE), mutated(sample), mutated(sample))
    )
    return sample.subject, body


@pytest.fixture
def running(tmp_path: Path, demo_model: Path) -> Iterator[System]:
    system = System(tmp_path, demo_model)
    yield system
    system.close()
    print(system.logs()[-20_000:])


@pytest.mark.timeout(SECONDS + 120)
def test_nothing_that_is_said_stops_it(running: System) -> None:
    worker = running.worker()
    gateway = running.gateway(SWEEP_INTERVAL_SECS="0.5")
    until = time.monotonic() + SECONDS
    count = 0

    # Each call of it is one round: hypothesis itself cannot be told how long to go on.
    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(said(), min_size=AT_A_TIME, max_size=AT_A_TIME))
    def one_round(messages: list[tuple[str, bytes]]) -> None:
        nonlocal count
        if time.monotonic() > until:
            return
        count += len(messages)
        publish(running.nats.url, *messages)
        for path in ("/health", "/jobs", "/webhooks", "/jobs/fuzz-0", "/model/status", "/jobs?limit=1"):
            status = gateway.http.get(path).status_code
            assert status < 500 or status in DOCUMENTED, f"{path} answers {status}"
        assert gateway.status is None, "the gateway has ended"
        assert worker.status is None, "the worker has ended"

    while time.monotonic() < until:
        one_round()
    assert count >= AT_A_TIME
    print(f"{count} messages in {SECONDS:g} s")
    job = finish(gateway.http, submit(gateway.http, "a.wav", (AUDIO / "telephone.wav").read_bytes()))
    assert (job["status"], bool(words(job))) == ("done", True)
    for answer in (gateway.http.get("/health"), gateway.http.get(f"/jobs/{job['id']}")):
        assert answer.status_code == 200
    assert subjects.is_job_id(job["id"])
