"""`whisper-jetstream model list` and `model fetch`, and `--model` with a file, as real commands."""

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from standalone.known_models import DEMO, KNOWN
from tests.support.model_server import Server, serving

ROOT = Path(__file__).parent.parent.parent
SILERO_ONNX = next((ROOT / "gpu_worker/audio/silero_vad").glob("*.onnx"))
WAIT_SECS = 30.0

ONE_MORE = """
import sys
from standalone.known_models import KNOWN, KnownModel
KNOWN["mine"] = KnownModel("10 MiB", sys.argv.pop(1))
from standalone.cli import main
sys.exit(main())
"""
"""The command with one more known model, because no published model is small enough for a test."""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
        "MODELS_DIR": str(tmp_path / "models"),
        "DATA_DIR": str(tmp_path / "data"),
        "PORT": "0",
        "NATS_PORT": "-1",
    }


@pytest.fixture
def server(demo_model: Path) -> Iterator[Server]:
    with serving(demo_model.read_bytes()) as server:
        yield server


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "standalone.cli", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=WAIT_SECS, check=False
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that says why."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    [line] = done.stderr.strip().splitlines()
    return line


def test_the_list_has_every_known_model_and_says_what_is_on_disk(
    environment: dict[str, str], demo_model: Path
) -> None:
    folder = Path(environment["MODELS_DIR"])
    folder.mkdir()
    whole = demo_model.read_bytes()
    (folder / "ggml-demo.bin").write_bytes(whole)
    (folder / "ggml-base.bin").write_bytes(whole)
    (folder / "ggml-tiny.part").write_bytes(whole[: 3 * 2**20])
    (folder / "ggml-mine.bin").write_bytes(whole)
    (folder / "voice.bin").write_bytes(SILERO_ONNX.read_bytes())
    done = run(environment, "model", "list", "--json")
    assert done.returncode == 1, "two files are not usable"
    listed = {model["name"]: model for model in json.loads(done.stdout)}
    assert list(listed) == [*KNOWN, "mine", "voice.bin"]
    states = {name: model["state"] for name, model in listed.items() if model["state"] != "absent"}
    assert states == {
        "demo": "verified",
        "tiny": "partial",
        "base": "unusable",
        "mine": "whole",
        "voice.bin": "unusable",
    }
    assert listed["demo"]["size"] == len(whole) < listed["demo"]["vram"]
    assert "published hash of base" in listed["base"]["problem"]
    assert (listed["large-v3"]["published_size"], listed["large-v3"]["path"]) == ("2.9 GiB", None)
    shown = run(environment, "model", "list")
    assert shown.returncode == 1
    assert str(folder) in shown.stderr
    lines = {line.split()[0]: line for line in shown.stdout.splitlines()}
    assert list(lines) == list(listed)
    assert "10 MiB  on disk, hash right, at least 20 MiB of VRAM" in lines["demo"]
    assert "3 MiB downloaded: `whisper-jetstream model fetch tiny` goes on" in lines["tiny"]
    assert "not usable: " in lines["base"]
    assert "no published hash" in lines["mine"]
    assert lines["large-v3"].split() == ["large-v3", "2.9", "GiB", "-"]


def test_the_list_of_an_empty_folder_is_well(environment: dict[str, str]) -> None:
    done = run(environment, "model", "list")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(KNOWN)


def test_a_reader_who_has_seen_enough_is_no_error(environment: dict[str, str]) -> None:
    """As `model list | head -0`: the pipe is closed before the first line."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "standalone.cli", "model", "list"]
    done = subprocess.run(
        command, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=WAIT_SECS
    )
    os.close(writing)
    assert done.returncode == 0
    assert "Error" not in done.stderr


def test_fetch_without_a_name_says_where_the_names_are(environment: dict[str, str]) -> None:
    assert "`whisper-jetstream model list`" in refusal(run(environment, "model", "fetch"))


def test_a_file_is_not_fetched(environment: dict[str, str], server: Server) -> None:
    environment["MODEL_BASE_URL"] = server.url
    assert "is a file" in refusal(run(environment, "model", "fetch", "some/ggml-tiny.bin"))
    assert server.requested == []


def test_a_model_with_another_hash_is_refused_by_the_command(
    environment: dict[str, str], server: Server
) -> None:
    environment["MODEL_BASE_URL"] = server.url
    done = run(environment, "model", "fetch", "tiny")
    assert done.returncode == 1
    assert "does not match its published hash" in done.stderr.splitlines()[-1]
    assert list(Path(environment["MODELS_DIR"]).iterdir()) == []


def test_a_killed_fetch_goes_on_and_is_checked(environment: dict[str, str], server: Server) -> None:
    """The mirror stands still in the middle, the command is killed, and the next one asks for the rest."""
    environment["MODEL_BASE_URL"] = server.url
    command = [
        sys.executable,
        "-c",
        ONE_MORE,
        hashlib.sha1(server.body).hexdigest(),
        "model",
        "fetch",
        "mine",
    ]
    part = Path(environment["MODELS_DIR"]) / "ggml-mine.part"
    server.break_after, server.hold = 4_000_000, True
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + WAIT_SECS
        while not part.exists() or part.stat().st_size < server.break_after:
            assert time.monotonic() < deadline
            assert first.poll() is None
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
    # Now the connection is lost in the middle once more, and that is resumed by the same command.
    server.hold = False
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=WAIT_SECS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert server.requested == [None, "bytes=4000000-", "bytes=8000000-"]
    path = Path(done.stdout.strip())
    assert path == part.with_suffix(".bin")
    assert path.read_bytes() == server.body
    assert not part.exists()


def silero_ggml() -> bytes:
    """The head of a voice detector as whisper.cpp's convert-silero-vad-to-ggml.py writes it, and some weights."""
    kind = b"silero-16k"
    head = struct.pack("<ii", 0x67676D6C, len(kind)) + kind + struct.pack("<16i", 5, 1, 2, *range(13))
    return head + bytes(100_000)


OTHERS = {
    "silero": (silero_ggml(), "it is a ggml file of another kind"),
    "onnx": (SILERO_ONNX.read_bytes(), "it is no ggml file"),
    "gguf": (b"GGUF" + bytes(1000), "it is no ggml file"),
    "empty": (b"", "it is cut off"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_file_is_refused_before_anything_is_started(
    environment: dict[str, str], tmp_path: Path, kind: str
) -> None:
    data, words = OTHERS[kind]
    path = tmp_path / "other.bin"
    path.write_bytes(data)
    line = refusal(run(environment, "up", "--model", str(path)))
    assert f"{path} is not a usable whisper model: {words}; " in line
    assert "`whisper-jetstream model list`" in line
    assert not (tmp_path / "data" / "jetstream").exists()


def test_a_cut_file_is_refused_by_name_and_by_file(environment: dict[str, str], demo_model: Path) -> None:
    path = Path(environment["MODELS_DIR"]) / "ggml-demo.bin"
    path.parent.mkdir()
    path.write_bytes(demo_model.read_bytes()[:-1])
    assert "cut off; remove the file, and fetch it again" in refusal(run(environment, "up", "--model", DEMO))
    assert "cut off; remove the file" in refusal(run(environment, "model", "fetch", DEMO))
    assert f"{path} is not" in refusal(run(environment, "up", "--model", str(path)))


@pytest.mark.parametrize("given", ["nowhere/talk.bin", "talk.bin", "./talk", "ggml-large-v3.bin"])
def test_a_missing_file_is_told_and_not_downloaded(
    environment: dict[str, str], server: Server, given: str
) -> None:
    environment["MODEL_BASE_URL"] = server.url
    line = refusal(run(environment, "up", "--model", given))
    assert f"There is no model file at {Path(given)}: " in line
    assert ("did you mean large-v3?" in line) == ("large-v3" in given)
    assert "There is no model file at" in refusal(run(environment | {"WHISPER_MODEL": given}, "up"))
    assert server.requested == []


def test_the_file_is_checked_by_the_engine_that_takes_it(
    environment: dict[str, str], demo_model: Path
) -> None:
    line = refusal(run(environment | {"ENGINE": "nothing"}, "up", "--model", str(demo_model)))
    assert line.endswith("ENGINE: there is no engine 'nothing'.")


def test_a_folder_and_a_name_that_is_no_text_are_refused(environment: dict[str, str], tmp_path: Path) -> None:
    assert "Is a directory; " in refusal(run(environment, "up", "--model", str(tmp_path)))
    assert "is not UTF-8" in refusal(run(environment, "up", "--model", "talk\udcff.bin"))
