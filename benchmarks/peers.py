"""whisper.cpp's own programs, where they are given by path: WHISPER_SERVER, WHISPER_CLI."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from benchmarks.harness import Bench
from gpu_worker.engine.whisper_cpp.prompts import SAID_TOKENS
from gpu_worker.settings import WorkerSettings

WHISPER_SERVER, WHISPER_CLI = os.environ.get("WHISPER_SERVER", ""), os.environ.get("WHISPER_CLI", "")
START_SECS = 60
Post = Callable[[bytes], None]


def _options(bench: Bench) -> list[str]:
    """As our engine runs the model."""
    threads = str(WorkerSettings().threads())
    return [
        "-m",
        str(bench.model),
        "-t",
        threads,
        "-l",
        "auto",
        "-bs",
        "5",
        "-bo",
        "5",
        "-mc",
        str(SAID_TOKENS + 1),
    ]


@contextmanager
def whisper_server(bench: Bench) -> Iterator[Post | None]:
    """A running one, its model loaded; None where there is none."""
    if not WHISPER_SERVER:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    command = [WHISPER_SERVER, *_options(bench), "--host", "127.0.0.1", "--port", str(port)]
    log = (bench.folder / "whisper-server.log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as http:

        def post(content: bytes) -> None:
            answer = http.post(
                "/inference", files={"file": ("a.wav", content)}, data={"response_format": "verbose_json"}
            )
            answer.raise_for_status()

        try:
            _wait(http, process)
            yield post
        finally:
            process.terminate()
            process.wait(20)


def _wait(http: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECS
    while True:
        try:
            if http.get("/").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def one_after_the_other(post: Post, files: list[bytes]) -> float:
    """Seconds, after one to warm up."""
    post(files[0])
    begun = time.monotonic()
    for content in files:
        post(content)
    return time.monotonic() - begun


def whisper_cli(bench: Bench, files: list[bytes]) -> float:
    """Seconds of one call with all files; it loads the model once."""
    paths = []
    for number, content in enumerate(files):
        path = bench.folder / f"cli{number}.wav"
        path.write_bytes(content)
        paths.append(str(path))
    begun = time.monotonic()
    subprocess.run([WHISPER_CLI, *_options(bench), "-np", *paths], check=True, capture_output=True)
    return time.monotonic() - begun
