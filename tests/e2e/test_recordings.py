"""Recordings that people really have: each is submitted, and the job must say what can be heard, when, and what is missing."""

import subprocess
from typing import Any

import pytest

from tests.recordings.bench import Bench
from tests.recordings.catalogue import CATALOGUE, Recording
from tests.recordings.judging import complaints
from tests.support.ffmpeg import carried
from tests.support.http import finish, submit
from tests.support.system import Gateway, System

Shared = tuple[System, Gateway]


@pytest.fixture(scope="module")
def jobs(
    shared: Shared, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, str]:
    """The id of each job, or why its recording cannot be made with this ffmpeg. All are queued before the first is waited for."""
    wanted = {
        str(getattr(item.callspec.params["recording"], "name", ""))
        for item in request.session.items
        if isinstance(item, pytest.Function) and "jobs" in item.fixturenames
    }
    _, gateway = shared
    bench, made = Bench(tmp_path_factory.mktemp("recordings"), carried()), dict[str, str]()
    for recording in CATALOGUE:
        if recording.name not in wanted:
            continue
        try:
            content = recording.make(bench)
        except subprocess.CalledProcessError as error:
            if not recording.optional:
                raise
            made[recording.name] = f"this ffmpeg cannot make it: {error.stderr.decode()[:100]}"
            continue
        made[recording.name] = submit(
            gateway.http, recording.name, content, beam_size="1", **recording.options
        )
    return made


@pytest.mark.parametrize(
    "recording",
    [pytest.param(r, id=r.name, marks=[pytest.mark.slow] if r.rare else []) for r in CATALOGUE],
)
def test_a_recording_gives_its_words_at_their_times(
    shared: Shared, jobs: dict[str, str], recording: Recording
) -> None:
    _, gateway = shared
    made = jobs[recording.name]
    if " " in made:
        pytest.skip(made)
    job: dict[str, Any] = finish(gateway.http, made)
    assert complaints(recording, job) == []
