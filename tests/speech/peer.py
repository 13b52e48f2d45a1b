"""whisper.cpp's own program, whisper-cli, built from the source distribution that the product's engine comes from."""

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import msgspec

from gpu_worker.settings import WorkerSettings
from tests.speech.measures import Heard, Said
from tests.speech.packages import FOLDER, RUN_LOCK, Missing, fetch
from tests.speech.values import BEAM_SIZE

LOAD_TIME = re.compile(r"load time = +([\d.]+) ms")
CMAKE = "cmake/data/bin/cmake"
VOICE_MODEL = "models/for-tests-silero-v6.2.0-ggml.bin"
"""A whole Silero VAD, in spite of its name."""
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DWHISPER_BUILD_TESTS=OFF",
    "-DWHISPER_BUILD_SERVER=OFF",
)


class Peer(msgspec.Struct, frozen=True):
    """The program, and the voice detector's model."""

    program: Path
    voice_model: Path

    def transcribe(self, model: Path, wav: Path, language: str, *, vad: bool = False) -> Heard:
        """Return what it makes of 16 kHz samples. Its words have no times. Raises CalledProcessError."""
        threads = str(WorkerSettings().threads())
        beams = ["-t", threads, "-bs", str(BEAM_SIZE), "-bo", str(BEAM_SIZE), "-l", language]
        voice = ["--vad", "-vm", str(self.voice_model)] if vad else []
        with tempfile.TemporaryDirectory() as temporary:
            out = Path(temporary) / "out"
            command = [str(self.program), "-m", str(model), *beams, *voice, "-oj", "-of", str(out), str(wav)]
            begun = time.monotonic()
            log = subprocess.run(command, capture_output=True, check=True).stderr.decode(errors="replace")
            secs = time.monotonic() - begun
            answer = out.with_suffix(".json").read_text("utf-8", errors="replace")
        loading = LOAD_TIME.search(log)
        return heard(answer, secs - (float(loading[1]) / 1000 if loading else 0.0))


def heard(answer: str, secs: float) -> Heard:
    """Read the JSON that `-oj` writes. Its offsets are milliseconds."""
    content = json.loads(answer)
    segments = tuple(
        Said(start=s["offsets"]["from"] / 1000, end=s["offsets"]["to"] / 1000, text=s["text"])
        for s in content["transcription"]
    )
    return Heard(language=content["result"]["language"], segments=segments, words=(), secs=secs)


def build() -> Peer:
    """Return the program, built if it is not here yet, which takes two minutes. Raises Missing."""
    archive = fetch("pywhispercpp", RUN_LOCK, source=True)
    source = FOLDER / archive.name.removesuffix(".tar.gz") / "whisper.cpp"
    peer = Peer(
        program=FOLDER / "build" / archive.name / "bin" / "whisper-cli", voice_model=source / VOICE_MODEL
    )
    if not peer.program.exists():
        if missing := [name for name in ("make", "cc", "c++") if shutil.which(name) is None]:
            raise Missing(f"whisper-cli cannot be built without {', '.join(missing)}.")
        with tarfile.open(archive) as content:
            content.extractall(FOLDER, filter="data")
        _compile(source, peer.program.parents[1])
    return peer


def _compile(source: Path, folder: Path) -> None:
    """The compiler's messages are in build.log. Raises Missing where it fails."""
    cmake, log = str(_cmake()), folder.with_suffix(".log")
    folder.mkdir(parents=True, exist_ok=True)
    commands = (
        [cmake, "-S", str(source), "-B", str(folder), "-G", "Unix Makefiles", *OPTIONS],
        [cmake, "--build", str(folder), "--target", "whisper-cli", "--parallel", str(os.cpu_count() or 1)],
    )
    with log.open("wb") as sink:
        for command in commands:
            if subprocess.run(command, stdout=sink, stderr=sink, check=False).returncode != 0:
                raise Missing(f"whisper-cli cannot be built; {log} says why.")


def _cmake() -> Path:
    """Return the program out of its package. A zip file keeps no permissions."""
    folder = FOLDER / "cmake"
    program = folder / CMAKE
    if not program.exists():
        with zipfile.ZipFile(fetch("cmake")) as wheel:
            wheel.extractall(folder)
    program.chmod(0o755)
    return program
