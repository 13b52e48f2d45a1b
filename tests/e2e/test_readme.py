"""The README's commands, as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.http import AUDIO, EXPECTED, finish
from tests.support.models import load, wait_for_worker
from tests.support.system import System

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def shell(command: str, **env: str) -> str:
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_the_session_with_curl_works(system: System) -> None:
    gateway = system.gateway()
    system.worker()
    block = README.split("tests/e2e/test_readme.py", 1)[1].split("```sh\n", 1)[1].split("```", 1)[0]
    submit, stream, poll, health = [line for line in block.splitlines() if line.startswith("curl")]
    answer = shell(on(gateway.url, submit))
    job_id = re.search(r'"job_id":"(\w+)"', answer)
    assert job_id, answer
    followed = shell(on(gateway.url, stream.replace("6f0c...", job_id[1])))
    assert "event: done" in followed
    assert followed.count("event: segment") == len(EXPECTED["english.mp3"]["phrases"])
    assert (
        shell(on(gateway.url, poll.replace("6f0c...", job_id[1])))
        == gateway.http.get(f"/jobs/{job_id[1]}").text
    )
    assert '"status":"ok"' in shell(on(gateway.url, health))
    assert finish(gateway.http, job_id[1])["filename"] == "english.mp3"


def on(url: str, command: str) -> str:
    """The gateway of the test listens on a free port."""
    return command.replace("http://127.0.0.1:8080", url).replace("curl ", "curl -sSf --max-time 50 ", 1)


USAGE = (ROOT / "docs" / "USAGE.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", USAGE, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.strip()]
DOCKER = ("docker compose ", "COMPOSE_PROFILES=")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_the_commands_of_the_usage_work_in_their_order(system: System, tmp_path: Path) -> None:
    gateway = system.gateway()
    system.worker()
    wait_for_worker(gateway.http)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {"WHISPER_URL": gateway.url, "NATS_URL": system.nats.url, "MODELS_DIR": str(tmp_path), "PATH": path}
    ran = [command for command in COMMANDS if not command.startswith(DOCKER)]
    assert len(ran) > 15
    for command in ran:
        assert command.startswith(("curl ", "whisper-jetstream ")), command
        shell(on(gateway.url, command), **env)
        if "/model/load" in command:  # what follows reads better when it has come
            load(gateway.http)


def test_files_that_the_documents_name_exist() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("**/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} names {target}"
    for name in re.findall(r"AUDIO=tests/audio/(\S+)", README):
        assert (AUDIO / name).exists()
