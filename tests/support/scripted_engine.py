"""An engine process that does what a test tells it: `python scripted_engine.py FOLDER`.

It speaks the real protocol. FOLDER/plan.json says what each start does at load and at each job; FOLDER/starts gets one
line, the process id, per start; FOLDER/orders one line of JSON for each Transcribe. Words of a plan:

load: ok | oom | fail | abort | garbage | hang (says nothing) | hold (until FOLDER/go exists)
job:  ok | flood (3000 large segments) | oom | half (one segment, then oom) | abort | garbage | deaf (ignores all)
      | hold (one segment, then until FOLDER/go exists, obeys an abort) | drip (a segment each tenth of a second)
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

import msgspec

from gpu_worker.engine.protocol import (
    LENGTH,
    Abort,
    Aborted,
    AnyCommand,
    AnyReply,
    Finished,
    HeardWord,
    Load,
    Loaded,
    LoadFailed,
    SegmentFound,
    Transcribe,
    body_length,
    command_decoder,
    frame,
)
from gpu_worker.pcm import SAMPLE_RATE

OUT_OF_MEMORY = {
    "load": "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 3094.36 MiB on device 0: "
    "cudaMalloc failed: out of memory",
    "job": "CUDA error: out of memory",
}


DROPS, DRIP_SECS = 60, 0.1
SECS_OF_A_CHARACTER, DOTS = 0.1, " ....."


class Engine:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with (folder / "starts").open("a") as starts:
            starts.write(f"{os.getpid()}\n")
        number = len((folder / "starts").read_text().splitlines()) - 1
        plan = json.loads((folder / "plan.json").read_text())
        self._load = plan["load"][min(number, len(plan["load"]) - 1)]
        self._jobs = plan["job"][min(number, len(plan["job"]) - 1)]
        self._aborted = threading.Event()
        self._commands: queue.Queue[Load | Transcribe] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def run(self) -> None:
        if not isinstance(self._commands.get(), Load):
            raise TypeError("the first command must be Load")
        self._misbehave("load", self._load)
        if self._load == "fail":
            self._send(LoadFailed(reason="no kernel image is available for execution on the device"))
            os._exit(1)
        self._send(Loaded(backend="CUDA0 (Scripted GPU)", load_secs=0.1))
        while True:
            job = self._commands.get()
            if not isinstance(job, Transcribe):
                raise TypeError("a model is loaded already")
            self._transcribe(job)

    def _listen(self) -> None:
        while (command := self._read()) is not None:
            if isinstance(command, Abort):
                self._aborted.set()
            else:
                self._commands.put(command)
        if self._jobs != "deaf":
            os._exit(0)

    def _transcribe(self, job: Transcribe) -> None:
        self._aborted.clear()
        with (self._folder / "orders").open("ab") as orders:
            orders.write(msgspec.json.encode(job) + b"\n")
        seconds = sum(end - start for start, end in job.spans) / SAMPLE_RATE
        half = round(seconds / 2, 2)
        if self._jobs in ("hold", "half"):
            self._send(_segment(0.0, half, " first half"))
        self._misbehave("job", self._jobs)
        if self._aborted.is_set():
            self._send(Aborted())
            return
        if self._jobs == "flood":
            for number in range(3000):
                at = seconds * number / 3000
                self._send(_segment(at, at, f" flood {'x' * 700}"))
            self._send(Finished(language="en", language_probability=1.0, engine_secs=0.1))
            return
        if self._jobs == "drip":
            for number in range(DROPS):
                at = seconds * number / DROPS
                self._send(_segment(at, at + seconds / DROPS, f" drop {number}"))
                time.sleep(DRIP_SECS)
            self._send(Finished(language="en", language_probability=1.0, engine_secs=0.1))
            return
        start = half if self._jobs == "hold" else 0.0
        self._send(_segment(start, seconds, " all of it"))
        self._send(Finished(language="en", language_probability=1.0, engine_secs=0.1))

    def _misbehave(self, when: str, how: str) -> None:
        match how:
            case "oom" | "half":
                self._die(OUT_OF_MEMORY[when])
            case "abort":
                self._die("GGML_ASSERT(false) failed")
            case "garbage":
                os.write(1, b"Segmentation fault, and then some more")
                time.sleep(60)
            case "hang" | "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                threading.Event().wait()
            case "hold":
                while not ((self._folder / "go").exists() or self._aborted.is_set()):
                    time.sleep(0.005)
            case _:
                return

    def _die(self, words: str) -> NoReturn:
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()
        os.abort()

    def _send(self, reply: AnyReply) -> None:
        os.write(1, frame(reply))

    def _read(self) -> AnyCommand | None:
        header = sys.stdin.buffer.read(LENGTH.size)
        if len(header) < LENGTH.size:
            return None
        command: AnyCommand = command_decoder.decode(sys.stdin.buffer.read(body_length(header)))
        return command


def _segment(start: float, end: float, text: str) -> SegmentFound:
    """One segment, with as many dots behind its text as it takes to speak for so long: nothing seems to be left out."""
    dots = max(0, int((end - start) / SECS_OF_A_CHARACTER) - len(text)) // len(DOTS)
    words = [f" {word}" for word in text.split()] + [DOTS] * dots
    secs = (end - start) / len(words)
    return SegmentFound(
        start=start,
        end=end,
        words=[
            HeardWord(start=start + secs * n, end=start + secs * (n + 1), text=word, probability=0.9)
            for n, word in enumerate(words)
        ],
    )


if __name__ == "__main__":
    Engine(Path(sys.argv[1])).run()
