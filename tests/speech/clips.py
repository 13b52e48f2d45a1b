"""The recordings: a folder of clips with a refs.json, and long.py, which joins them to long ones with a known timeline."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.speech.packages import Missing
from tests.speech.values import Clip
from tests.support.ffmpeg import ffmpeg

PAUSES = "two-sentences.flac"
"""The long recording in which almost nobody speaks. Its seeds differ in the noise."""


def clips(folder: Path) -> list[Clip]:
    """Return the clips of a folder. Raises Missing."""
    if not (folder / "refs.json").exists():
        raise Missing(f"There is no refs.json in {folder}: SPEECH_DIR is a folder with speech.")
    refs = json.loads((folder / "refs.json").read_text("utf-8"))
    return [
        Clip(path=folder / name, name=name, language=ref["language"], text=ref["text"])
        for name, ref in refs.items()
    ]


def short(found: list[Clip]) -> list[Clip]:
    """Return the five that a short run measures: the first English ones with a text."""
    return [clip for clip in found if clip.language == "en" and clip.text][:5]


def of_model(found: list[Clip], model: str) -> list[Clip]:
    """Return those that a model can be asked: an English one knows English, and is tried where nothing is said."""
    return [clip for clip in found if not model.endswith(".en") or clip.language in ("en", None)]


def long(folder: Path, seed: int, into: Path) -> list[Clip]:
    """Make the long recordings of a seed, which are English, if they are not here yet. Raises Missing."""
    texts, made = {clip.name: clip.text or "" for clip in clips(folder)}, into / f"long-{seed}"
    if not (folder / "long.py").exists():
        raise Missing(f"There is no long.py in {folder}, which makes the long recordings.")
    if not (made / "timeline.json").exists():
        command = [sys.executable, str(folder / "long.py"), str(made), str(seed)]
        subprocess.run(command, env={**os.environ, "PATH": _path(into)}, check=True)
    timeline = json.loads((made / "timeline.json").read_text("utf-8"))
    return [
        Clip(
            path=made / name,
            name=f"{name}, seed {seed}",
            language="en",
            text=" ".join(texts[clip] for _, _, clip in spoken),
            speech=tuple((start, end) for start, end, _ in spoken),
            is_twin=name == PAUSES and seed > 1,
        )
        for name, spoken in timeline.items()
    ]


def _path(into: Path) -> str:
    """Return the PATH on which long.py finds the ffmpeg that a package carries, under its usual name."""
    programs = into / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    if not (programs / "ffmpeg").exists():
        (programs / "ffmpeg").symlink_to(ffmpeg())
    return f"{programs}{os.pathsep}{os.environ['PATH']}"


def as_wav(recording: Path, into: Path) -> Path:
    """Return the recording as whisper-cli takes every one of them: one channel at 16 kHz."""
    wav = into / "clip.wav"
    command = [
        ffmpeg(),
        "-nostdin",
        "-v",
        "error",
        "-y",
        "-i",
        str(recording),
        "-ac",
        "1",
        "-ar",
        "16000",
        str(wav),
    ]
    subprocess.run(command, check=True)
    return wav
