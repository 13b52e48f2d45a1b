"""A model is a name or a file, and is shown by the name of its file."""

from pathlib import Path

import pytest

from gpu_worker.model.lifecycle_state import Lifecycle, LifecyclePolicy
from gpu_worker.model.report import StatusReport
from gpu_worker.model_names import file_of, is_file, name_of
from gpu_worker.settings import WorkerSettings
from schemas.settings import from_environment
from standalone.known_models import KNOWN, advice, is_name
from standalone.settings import StandaloneSettings

MODELS = Path("/models")


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("large-v3", "/models/ggml-large-v3.bin"),
        ("base.en", "/models/ggml-base.en.bin"),
        ("ggml-base.en.bin", "ggml-base.en.bin"),
        ("./talk", "talk"),
        ("sub/talk.bin", "sub/talk.bin"),
        ("/elsewhere/talk.bin", "/elsewhere/talk.bin"),
        ("~/talk.bin", "/home/somebody/talk.bin"),
        (".bin", ".bin"),
    ],
)
def test_the_file_of_a_model(model: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert file_of(model, MODELS) == Path(path)
    assert is_file(model) == (path != f"/models/ggml-{model}.bin")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models/ggml-large-v3.bin", "large-v3"),
        ("ggml-base.en.bin", "base.en"),
        ("/x/talk.bin", "talk.bin"),
        ("/x/ggml-talk.q5", "ggml-talk.q5"),
        ("/x/ggml-.bin", "ggml-.bin"),
        ("/x/talk", "talk"),
    ],
)
def test_the_name_of_a_file(path: str, name: str) -> None:
    assert name_of(Path(path)) == name


def test_every_known_name_comes_back_from_its_file() -> None:
    for name in KNOWN:
        assert is_name(name)
        assert name_of(file_of(name, MODELS)) == name


@pytest.mark.parametrize(
    ("given", "name", "path"),
    [
        ({}, "large-v3", "/models/ggml-large-v3.bin"),
        ({"WHISPER_MODEL": "small"}, "small", "/models/ggml-small.bin"),
        ({"WHISPER_MODEL": "/x/talk.bin"}, "talk.bin", "/x/talk.bin"),
        ({"WHISPER_MODEL": "small", "WHISPER_MODEL_PATH": "/x/ggml-tiny.bin"}, "tiny", "/x/ggml-tiny.bin"),
        ({"WHISPER_MODEL_PATH": "talk"}, "talk", "talk"),
    ],
)
def test_the_worker_and_up_show_the_model_that_they_use(given: dict[str, str], name: str, path: str) -> None:
    worker = from_environment(WorkerSettings, given)
    assert (worker.model_name(), worker.model_path()) == (name, Path(path))
    up = from_environment(StandaloneSettings, given | {"MODELS_DIR": "/models"})
    assert (up.model_name(), up.model_file()) == (name, Path(path))


def test_the_status_has_the_name_of_the_file_that_is_used() -> None:
    settings = WorkerSettings(whisper_model="large-v3", whisper_model_path="/x/talk.bin")
    report = StatusReport(settings, LifecyclePolicy(idle_timeout_secs=0, gpu_poll_interval_secs=30))
    status = report.build(Lifecycle(), 0.0, holds_off=False, job_id=None, vram=None)
    assert (status.model, status.path) == ("talk.bin", "/x/talk.bin")


def test_the_nearest_name_is_meant() -> None:
    assert advice("large_v3").startswith("did you mean large-v3?")
    assert advice("zzzzzzz").startswith("`whisper-jetstream model list`")
