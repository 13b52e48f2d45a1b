"""Recordings that people really have: each is submitted, and the job must say what can be heard, when, and what is missing."""

import subprocess
from typing import Any

import pytest

from tests.recordings.bench import Bench
from tests.recordings.catalogue import CATALOGUE
from tests.recordings.judging import complaints
from tests.recordings.recording import Recording
from tests.support.ffmpeg import carried
from tests.support.http import finish, submit
from tests.support.system import Gateway, System

AHEAD = 3
"""Recordings that are submitted before they are asked for, so that the worker has the next one while this one is judged."""


class Queue:
    """Makes and submits recordings in the order of their tests."""

    def __init__(self, gateway: Gateway, bench: Bench, wanted: list[Recording]) -> None:
        self._gateway, self._bench, self._wanted = gateway, bench, wanted
        self._ids: dict[str, str] = {}
        self._cannot: dict[str, str] = {}

    def job(self, recording: Recording) -> dict[str, Any]:
        """Return the job of a recording when it has ended. Skips the test where this ffmpeg cannot make it."""
        at = self._wanted.index(recording)
        for each in self._wanted[at : at + 1 + AHEAD]:
            self._submit(each)
        if recording.name in self._cannot:
            pytest.skip(f"this ffmpeg cannot make it: {self._cannot[recording.name]}")
        return finish(self._gateway.http, self._ids[recording.name])

    def _submit(self, recording: Recording) -> None:
        name = recording.name
        if name in self._ids or name in self._cannot:
            return
        try:
            content = recording.make(self._bench)
        except subprocess.CalledProcessError as error:
            if not recording.optional:
                raise
            self._cannot[name] = error.stderr.decode()[:100]
            return
        # Greedy, because it is the recording that is tried here and not the model.
        self._ids[name] = submit(self._gateway.http, name, content, beam_size="1", **recording.options)


@pytest.fixture(scope="module")
def queue(
    shared: tuple[System, Gateway], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Queue:
    """Of the recordings whose tests are run."""
    names = {
        getattr(item.callspec.params["recording"], "name", "")
        for item in request.session.items
        if isinstance(item, pytest.Function) and "queue" in item.fixturenames
    }
    bench = Bench(tmp_path_factory.mktemp("recordings"), carried())
    return Queue(shared[1], bench, [recording for recording in CATALOGUE if recording.name in names])


@pytest.mark.parametrize(
    "recording",
    [pytest.param(r, id=r.name, marks=[pytest.mark.slow] if r.rare else []) for r in CATALOGUE],
)
def test_a_recording_gives_its_words_at_their_times(queue: Queue, recording: Recording) -> None:
    assert complaints(recording, queue.job(recording)) == []
