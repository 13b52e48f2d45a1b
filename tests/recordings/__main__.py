"""Write docs/evidence/recordings.md: `python -m tests.recordings`.

Every recording is made by each ffmpeg that is here, submitted to a running system, and judged. The word errors on real speech
(tests/recordings/word_errors.py) stand in a file of their own beside it, because they need models and speech that the project does not
carry.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from standalone import known_models, models
from tests.recordings.bench import Bench
from tests.recordings.catalogue import CATALOGUE
from tests.recordings.judging import complaints
from tests.recordings.recording import Recording
from tests.support.ffmpeg import carried, on_path
from tests.support.http import finish, submit
from tests.support.system import Gateway, System

FILE = Path(__file__).parents[2] / "docs" / "evidence" / "recordings.md"
HEAD = """# Recordings

Made by `python -m tests.recordings`. Each recording is made of the three phrases of tests/audio/english.flac by tests/recordings/, with each
ffmpeg, and goes through a whole system with the demo model: HTTP, store, decoder, voice detection, engine, events. The decoder is the same for both
(PyAV in the worker, docs/adr/0023), so that the columns show what the *writer* of a file changes. `tests/e2e/test_recordings.py` is the same
table as a test, with the ffmpeg that imageio-ffmpeg carries.

A time is where a phrase begins, in seconds; it may be off by 0.35 s. "right" means: words, times, length, warnings, track and channels are
all as expected. Lossy codecs that the demo model never heard in its training may change a word; their rows say how many words must be right.

| recording | options | expected | warnings |"""
"""The columns of the writers follow."""


def said(recording: Recording) -> str:
    """What is expected, in short."""
    if recording.error is not None:
        return f"`{recording.error}`"
    phrases = ", ".join(f"{at:.2f} {text}" for at, text in recording.expected()) or "nothing"
    share = f" ({recording.accuracy:.0%} of the words)" if recording.accuracy < 1 else ""
    return phrases + share


def outcome(recording: Recording, job: dict[str, Any]) -> str:
    """What came out, in short."""
    if wrong := complaints(recording, job):
        return f"**wrong**: {'; '.join(wrong)}"
    return f"right: {job['error']['message']}" if job["error"] else "right"


def judged(gateway: Gateway, program: str, folder: Path) -> dict[str, str]:
    """Submit each recording as this program makes it, and return what came out by name."""
    bench, jobs, found = Bench(folder, program), dict[str, str](), dict[str, str]()
    for recording in CATALOGUE:
        try:
            content = recording.make(bench)
        except subprocess.CalledProcessError:
            found[recording.name] = "cannot be made"
            continue
        jobs[recording.name] = submit(
            gateway.http, recording.name, content, beam_size="1", **recording.options
        )
    for recording in CATALOGUE:
        if recording.name in jobs:
            found[recording.name] = outcome(recording, finish(gateway.http, jobs[recording.name]))
    return found


def version(program: str) -> str:
    """Return `ffmpeg 9.0`, for example."""
    line = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stdout
    return f"made by ffmpeg {line.split()[2].split('-')[0]}"


def main() -> None:
    """Make, submit and judge everything, and write the table."""
    programs = {version(program): program for program in (on_path(), carried()) if program is not None}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        system = System(
            folder, models.fetch(known_models.DEMO, folder / "models", "", lambda _done, _total: None)
        )
        try:
            system.worker()
            gateway = system.gateway()
            columns = {name: judged(gateway, program, folder / name) for name, program in programs.items()}
        finally:
            system.close()
    lines = [f"{HEAD} {' | '.join(columns)} |", "|---|---|---|---|" + "---|" * len(columns)]
    for recording in CATALOGUE:
        options = ", ".join(f"`{name}={value}`" for name, value in recording.options.items())
        warnings = ", ".join(f"`{code}`" for code in recording.warnings)
        cells = [recording.name, options, said(recording), warnings]
        cells += [column[recording.name] for column in columns.values()]
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    outcomes = [column[r.name] for column in columns.values() for r in CATALOGUE]
    wrong = sum(text.startswith("**wrong") for text in outcomes)
    made = sum(text != "cannot be made" for text in outcomes)
    lines += ["", f"{len(CATALOGUE)} recordings, {made} files, {made - wrong} right, {wrong} wrong.", ""]
    FILE.write_text("\n".join(lines))
    sys.stdout.write(f"{FILE} written: {wrong} wrong of {made}\n")


if __name__ == "__main__":
    main()
