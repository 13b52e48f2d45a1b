"""The `whisper-jetstream` command: up, transcribe, jobs, cancel, model; Ctrl-C; restarts."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

from tests.support.http import AUDIO, EXPECTED

REPOSITORY = Path(__file__).parent.parent.parent
"""What is tested is the code here, wherever the command is installed from."""
COMMAND = str(Path(sys.executable).with_name("whisper-jetstream"))
EXPECTED_TEXT = " ".join(p["text"] for p in EXPECTED["english.mp3"]["phrases"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An empty folder, free ports and an empty home."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "PORT": str(free_port()),
        "NATS_PORT": str(free_port()),
        "DATA_DIR": str(tmp_path / "data"),
        "MODELS_DIR": str(tmp_path / "models"),
        "SPOOL_DIR": str(tmp_path / "spool"),
        "WHISPER_USE_GPU": "false",
        "COLUMNS": "200",
        "PYTHONPATH": str(REPOSITORY),
    }


def run(
    environment: dict[str, str], *arguments: str, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    url = ["--url", f"http://127.0.0.1:{environment['PORT']}"]
    command = [COMMAND, *url, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


class Up:
    """An `up`, its output in a file."""

    def __init__(
        self,
        environment: dict[str, str],
        log: Path,
        *more: str,
        model: str | None = "demo",
        wait_for: str | None = "is up",
    ) -> None:
        self._log = log
        command = [COMMAND, "up", *(["--model", model] if model else []), *more]
        with log.open("wb") as sink:
            self.process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)
        if wait_for is not None:
            self.wait_for(wait_for)

    @property
    def said(self) -> str:
        return self._log.read_text()

    def family(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def wait_for_children(self, *words: str) -> None:
        """Until there is one with each of these words in its command line."""
        deadline = time.monotonic() + 30
        while not all(any(word in line for line in self.command_lines()) for word in words):
            assert time.monotonic() < deadline, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.002)

    def command_lines(self) -> list[str]:
        lines = []
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                lines.append(" ".join(process.cmdline()))
        return lines

    def wait_for(self, text: str, count: int = 1) -> None:
        deadline = time.monotonic() + 30
        while len(re.findall(text, self._log.read_text())) < count:
            assert time.monotonic() < deadline, self._log.read_text()
            assert self.process.poll() is None, self._log.read_text()
            time.sleep(0.02)

    def child(self, *words: str) -> psutil.Process:
        [found] = [
            c
            for c in psutil.Process(self.process.pid).children()
            if all(w in " ".join(c.cmdline()) for w in words)
        ]
        return found


@pytest.fixture
def up(environment: dict[str, str], tmp_path: Path) -> Iterator[Up]:
    running = Up(environment, tmp_path / "up.log")
    yield running
    running.process.terminate()
    running.process.wait(20)
    print((tmp_path / "up.log").read_text())


def test_up_with_audio_prints_the_transcript_and_stops(environment: dict[str, str]) -> None:
    done = run(environment, "up", "--model", "demo", "--audio", str(AUDIO / "english.mp3"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == EXPECTED_TEXT
    assert "-->" in done.stderr
    assert "100%" in done.stderr
    assert [
        p
        for p in psutil.process_iter(["cmdline"])
        if environment["DATA_DIR"] in " ".join(p.info["cmdline"] or [])
    ] == []


@pytest.mark.parametrize("by", ["--model", "WHISPER_MODEL", "WHISPER_MODEL_PATH"])
def test_a_model_by_its_file_is_shown_by_the_files_name(
    environment: dict[str, str], tmp_path: Path, demo_model: Path, by: str
) -> None:
    path = tmp_path / "my models" / "spoken digits.bin"
    path.parent.mkdir()
    path.symlink_to(demo_model)
    chosen = {} if by == "--model" else {by: str(path)}
    model = str(path) if by == "--model" else None
    running = Up(environment | chosen, tmp_path / "up.log", model=model)
    try:
        assert "model spoken digits.bin. Ctrl-C" in " ".join(running.said.split())
        status = json.loads(run(environment, "model", "load").stdout)
        assert (status["state"], status["model"], status["path"]) == ("ready", path.name, str(path))
    finally:
        running.process.terminate()
        running.process.wait(20)


def test_without_a_model_one_sentence_says_what_to_do(environment: dict[str, str]) -> None:
    done = run(environment, "up")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "make run MODEL=large-v3" in done.stderr
    assert "make run MODEL=demo" in done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [({"PORT": "eighty"}, "PORT"), ({"WHISPER_MODEL_PATH": "/dev/null"}, "not a usable whisper model")],
)
def test_wrong_settings_are_told_in_one_line(
    environment: dict[str, str], change: dict[str, str], words: str
) -> None:
    done = run(environment | change, "up", "--audio", str(AUDIO / "english.mp3"))
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_everything(environment: dict[str, str], tmp_path: Path, sig: signal.Signals) -> None:
    up = Up(environment, tmp_path / "up.log")
    assert run(environment, "model", "load").returncode == 0, "the engine runs too"
    family = psutil.Process(up.process.pid).children(recursive=True)
    assert len(family) == 5, "nats-server, gateway, worker, its engine, the watchdog"
    up.process.send_signal(sig)
    assert up.process.wait(20) == 0
    assert psutil.wait_procs(family, timeout=1)[1] == []
    assert "Traceback" not in (tmp_path / "up.log").read_text()


def test_a_session_at_the_command_line(environment: dict[str, str], up: Up) -> None:
    status = json.loads(run(environment, "model", "status").stdout)
    assert (status["state"], status["model"]) == ("unloaded", "demo")
    done = run(
        environment,
        "transcribe",
        str(AUDIO / "english.mp3"),
        str(AUDIO / "telephone.wav"),
        "--language",
        "en",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == EXPECTED_TEXT
    status = json.loads(run(environment, "model", "status").stdout)
    assert (status["state"], status["backend"]) == ("ready", "cpu")
    assert json.loads(run(environment, "model", "unload").stdout)["state"] == "unloaded"
    assert len(up.family()) == 4, "the engine is gone"
    listed = run(environment, "jobs").stdout.splitlines()
    assert ["english.mp3" in listed[1], "telephone.wav" in listed[0]] == [True, True]
    job_id = listed[0].split()[0]
    refused = run(environment, "cancel", job_id)
    assert refused.returncode == 1
    assert "already ended" in refused.stderr
    assert "no file" in run(environment, "transcribe", "/nowhere.wav").stderr
    whole = run(environment, "transcribe", str(AUDIO / "telephone.wav"), "--json", "--words", "true")
    assert json.loads(whole.stdout)["segments"][0]["words"]


def test_bench_measures_the_model_and_the_service(
    environment: dict[str, str], up: Up, tmp_path: Path
) -> None:
    """The running service has loaded its model, and hands it back for that."""
    assert run(environment, "transcribe", str(AUDIO / "telephone.wav")).returncode == 0
    drawing = str(tmp_path / "bench.svg")
    asked = ("--model", "demo", "--audio", str(AUDIO / "english.mp3"), "--plot", drawing, "--rounds", "2")
    done = run(environment, "bench", *asked, "--json")
    assert done.returncode == 0, done.stderr
    assert "handed back the GPU" in done.stderr
    assert json.loads(run(environment, "model", "status").stdout)["state"] == "unloaded"
    report = json.loads(done.stdout)
    assert [(r["flash_attn"], r["beam_size"]) for r in report["engine"]] == [
        (True, 5), (True, 1), (False, 5), (False, 1)
    ]  # fmt: skip
    for figures in report["engine"]:
        assert figures["failure"] is None
        assert figures["rtf"] == pytest.approx(figures["secs"] / report["audio_secs"], abs=0.001)
        parts = figures["mel_secs"] + figures["encode_secs"] + figures["tokens_secs"]
        assert 0.5 * figures["secs"] < parts <= figures["secs"] + 0.002
    service = report["service"]
    assert service["secs"] > 0
    assert service["warm"]["engine"] > 0
    assert service["cold"]["load"] > 0
    assert service["warm"]["load"] == 0
    assert ElementTree.parse(drawing).getroot().tag.endswith("svg")
    job_id = run(environment, "jobs").stdout.split()[0]
    table = run(environment, "timings", job_id, "--plot", drawing).stdout
    assert job_id in table
    assert re.search(r"encoder +\d+\.\d+", table)


@pytest.mark.parametrize(
    ("name", "words"), [("silence.flac", "nobody speaks"), ("make.py", "not"), ("nowhere", "no file")]
)
def test_bench_says_in_one_line_why_not(environment: dict[str, str], name: str, words: str) -> None:
    done = run(environment, "bench", "--model", "demo", "--audio", str(AUDIO / name))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert words in done.stderr.strip().splitlines()[-1]


def test_the_dead_are_restarted_and_the_reason_is_shown(
    environment: dict[str, str], up: Up, tmp_path: Path
) -> None:
    for words in (("gpu_worker",), ("gateway",), ("nats-server",)):
        up.child(*words).kill()
        up.wait_for(f"{words[0]} was ended by signal 9; starting it again")
    deadline = time.monotonic() + 30
    while True:
        done = run(environment, "transcribe", str(AUDIO / "telephone.wav"))
        if done.returncode == 0:
            break
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.2)
    assert "".join(done.stdout.split())


def test_nothing_answers(environment: dict[str, str]) -> None:
    done = run(environment, "jobs")
    assert done.returncode == 1
    assert "nothing answers" in done.stderr
