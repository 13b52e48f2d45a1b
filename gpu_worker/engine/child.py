"""The engine process: the pipe loop around one loaded model. `python -m gpu_worker.engine.child [LIBRARY]`

A process of its own, because native libraries call abort() on CUDA errors, and because only the end of a process gives all
of its VRAM back. LIBRARY is the name of a package beside this module (gpu_worker/engine/library.py).
"""

import os
import queue
import signal
import sys
import threading
import time
from functools import partial
from typing import BinaryIO

import numpy as np

from gpu_worker.engine.library import DEFAULT_LIBRARY, CannotOpen, Engine, Samples, find_library
from gpu_worker.engine.protocol import (
    LENGTH,
    Abort,
    AnyCommand,
    AnyReply,
    Load,
    Loaded,
    LoadFailed,
    Transcribe,
    body_length,
    command_decoder,
    frame,
)

LOST_COUNT_STATUS = 3
"""Exit status where a second Transcribe comes while one is running: its replies could not be told apart."""
LOAD_FAILED_STATUS = 1


class Channel:
    """Frames in and out. A thread reads, so that an Abort is seen while the engine computes."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink
        self.commands: queue.Queue[Load | Transcribe] = queue.Queue()
        self._aborted: int | None = None
        """Number of the call that the last Abort named."""
        self._busy = threading.Event()
        """Set from the arrival of a Transcribe until its last reply is sent."""
        threading.Thread(target=self._read, name="commands", daemon=True).start()

    def is_aborted(self, call: int) -> bool:
        """Whether the worker wants no more of this call."""
        return self._aborted == call

    def end_call(self, reply: AnyReply) -> None:
        """Send the last reply to a Transcribe. The worker may send the next one as soon as it has seen this."""
        self._busy.clear()
        self.send(reply)

    def send(self, reply: AnyReply) -> None:
        """Write one frame and flush it."""
        self._sink.write(frame(reply))
        self._sink.flush()

    def _read(self) -> None:
        while (command := self._next()) is not None:
            if isinstance(command, Abort):
                self._aborted = command.call
                continue
            if isinstance(command, Transcribe):
                if self._busy.is_set():
                    sys.stderr.write("a second Transcribe came while one is running\n")
                    sys.stderr.flush()
                    os._exit(LOST_COUNT_STATUS)
                self._busy.set()
            self.commands.put(command)
        # The worker has closed the pipe or is dead. Nothing here needs tidying, and the GPU is wanted back now.
        os._exit(0)

    def _next(self) -> AnyCommand | None:
        """Return the next command, or None at the end of the pipe."""
        header = self._source.read(LENGTH.size)
        if len(header) < LENGTH.size:
            return None
        command: AnyCommand = command_decoder.decode(self._source.read(body_length(header)))
        return command


def read_audio(job: Transcribe) -> Samples:
    """Return the pieces that `job` names, joined: contiguous and finite, as engines need it."""
    pcm = np.memmap(job.pcm_path, np.float32, mode="r")
    audio = np.concatenate([pcm[start:end] for start, end in job.spans])
    # One NaN spoils a whole window. np.concatenate has made a copy, so that mending it leaves the file alone.
    return np.ascontiguousarray(np.nan_to_num(audio, copy=False, nan=0, posinf=0, neginf=0))


def open_engine(channel: Channel, library: str) -> Engine:
    """Wait for Load, carry it out and answer it. Ends the process where the model cannot be loaded."""
    begun, load = time.monotonic(), channel.commands.get()
    if not isinstance(load, Load):
        raise TypeError("the first command must be Load")
    try:
        engine = find_library(library).open_engine(load)
    except CannotOpen as error:
        channel.send(LoadFailed(reason=str(error)))
        # Not sys.exit: what a library has left half loaded must not be freed.
        os._exit(LOAD_FAILED_STATUS)
    channel.send(Loaded(backend=engine.backend, load_secs=round(time.monotonic() - begun, 3)))
    return engine


def serve(channel: Channel, engine: Engine) -> None:
    """Carry out one Transcribe after the other, until the reading thread ends the process."""
    while True:
        job = channel.commands.get()
        if not isinstance(job, Transcribe):
            raise TypeError("a model is loaded already")
        is_aborted = partial(channel.is_aborted, job.call)
        channel.end_call(engine.transcribe(job, read_audio(job), channel.send, is_aborted))
        engine.prepare()


def main() -> None:
    """Run until the worker closes the pipe."""
    # Ctrl-C reaches the whole process group; the worker decides what becomes of its engine.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sink = os.fdopen(os.dup(1), "wb")
    # Whatever a library prints to stdout goes to stderr, so that it cannot disturb the frames.
    os.dup2(2, 1)
    channel = Channel(sys.stdin.buffer, sink)
    serve(channel, open_engine(channel, sys.argv[1] if len(sys.argv) > 1 else DEFAULT_LIBRARY))


if __name__ == "__main__":
    main()
