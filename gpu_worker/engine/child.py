"""The engine process: whisper.cpp with one loaded model. `python -m gpu_worker.engine.child`

The only importer of pywhispercpp. A process of its own, because ggml calls abort() on CUDA errors and because only a
process's end gives all VRAM back. `Model.transcribe` is not used: it drops whisper_full's return code and keeps
parameters from call to call. Each guard here stands for a trap that was found in whisper.cpp 1.8.5 (docs/adr/0004).
"""

import os

os.environ["GGML_NO_BACKTRACE"] = "1"  # else ggml's abort() forks a debugger
os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # spinning barriers cost up to a hundredfold on busy cores

import codecs
import queue
import signal
import sys
import threading
import time
from typing import Any, BinaryIO

import _pywhispercpp as pw
import numpy as np
from numpy.typing import NDArray

from gpu_worker.engine.protocol import (
    LENGTH,
    SAMPLE_RATE,
    Abort,
    Aborted,
    AnyCommand,
    AnyReply,
    Finished,
    Load,
    Loaded,
    LoadFailed,
    ProgressMade,
    Rejected,
    SegmentFound,
    Transcribe,
    body_length,
    command_decoder,
    frame,
)
from gpu_worker.engine.whisper_cpp.log import WhisperLog
from schemas.jobs import Task, Word
from schemas.languages import AUTO

MIN_SAMPLES = 3200
"""whisper.cpp reads past the end of anything shorter than 201 samples, and ignores less than 110 ms."""
CONTEXT_TOKENS, CONTEXT_TOKENS_WITH_PROMPT = 64, 224
"""How much earlier text goes before each window: little, because loops feed on it; a user's prompt gets all there is."""

REASONS = {
    -1: "voice activity detection failed",
    -2: "the spectrogram could not be computed",
    -3: "the language could not be detected",
    -4: "more decoders were asked for than whisper.cpp has",
    -5: "the audio context is too large",
    -6: "the encoder failed",
    -7: "there is no memory for the decoder's cache",
    -8: "the decoder failed",
    -9: "the decoder failed",
}
FATAL = {-7}
"""After -7 whisper.cpp's state is freed memory."""


LOST_COUNT_STATUS = 3


class Engine:
    def __init__(self, load: Load, channel: "Channel", log: WhisperLog) -> None:
        self._channel, self._log, self._threads = channel, log, load.threads
        self._ended_at: float | None = None
        params = pw.whisper_context_default_params()
        params.use_gpu, params.flash_attn = load.use_gpu, load.flash_attn
        self._ctx: Any = pw.whisper_init_from_file_with_params(load.model_path, params)
        if not log.loaded:
            raise RuntimeError(log.last_error or "whisper.cpp could not load the model")
        self._warm_up(load.beam_size)

    def _warm_up(self, beam_size: int) -> None:
        """Take the most memory that any job can need, now: it grows with the first full-width beam and fallback."""
        silence = np.zeros(2 * SAMPLE_RATE, np.float32)
        for temperature in (0.0, 0.2):
            params = self._params("en", Task.TRANSCRIBE, beam_size, temperature, prompt="", words=False)
            code = pw.whisper_full(self._ctx, params, silence, silence.size)
            if code != 0:
                raise RuntimeError(f"the warm-up failed: {REASONS.get(code, code)}")

    def _params(
        self, language: str, task: Task, beam_size: int, temperature: float, *, prompt: str, words: bool
    ) -> Any:
        strategies = pw.whisper_sampling_strategy
        greedy = strategies.WHISPER_SAMPLING_GREEDY
        params = pw.whisper_full_default_params(
            greedy if beam_size == 1 else strategies.WHISPER_SAMPLING_BEAM_SEARCH
        )
        params.beam_search = {"beam_size": beam_size, "patience": -1.0}
        params.greedy = {"best_of": beam_size}
        params.n_threads = self._threads
        params.language = language
        params.translate = task is Task.TRANSLATE
        params.temperature = temperature
        params.initial_prompt = prompt
        params.n_max_text_ctx = (
            CONTEXT_TOKENS_WITH_PROMPT if len(prompt) > CONTEXT_TOKENS * 4 else CONTEXT_TOKENS
        )
        params.no_context = True
        params.token_timestamps = words
        params.print_progress, params.print_realtime, params.print_timestamps = True, False, False
        pw.assign_progress_callback(params, lambda _percent: None)  # without one it prints
        return params

    def transcribe(self, job: Transcribe) -> AnyReply:
        audio, seconds = read_audio(job)
        params = self._params(
            job.language, job.task, job.beam_size, job.temperature, prompt=job.prompt, words=job.words
        )
        reader = SegmentReader(self._ctx, seconds, job.words)

        def on_segment(_ctx: object, new: int) -> None:
            count = pw.whisper_full_n_segments(self._ctx)
            for index in range(count - new, count):
                self._channel.send(reader.read(index))

        def on_progress(percent: int) -> None:
            self._channel.send(ProgressMade(fraction=percent / 100))

        def is_aborted() -> bool:
            return self._channel.aborted == job.call

        pw.assign_new_segment_callback(params, on_segment)
        pw.assign_progress_callback(params, on_progress)
        pw.assign_abort_callback(params, is_aborted)
        self._log.detected = None
        pw.whisper_reset_timings(self._ctx)
        begun = time.monotonic()
        idle_secs = None if self._ended_at is None else begun - self._ended_at
        code = pw.whisper_full(self._ctx, params, audio, audio.size)
        self._ended_at = time.monotonic()
        if is_aborted():
            return Aborted()
        if code != 0:
            return Rejected(reason=REASONS.get(code, f"whisper.cpp error {code}"), fatal=code in FATAL)
        language, probability = self._language(job)
        pw.whisper_print_timings(self._ctx)
        secs: dict[str, float] = self._log.secs
        spoken = pw.whisper_full_n_segments(self._ctx) > 0
        return Finished(
            language=language if spoken else None,
            language_probability=probability if spoken else None,
            engine_secs=self._ended_at - begun,
            mel_secs=secs["mel"],
            encode_secs=secs["encode"],
            tokens_secs=sum(secs[part] for part in ("sample", "decode", "batchd", "prompt")),
            idle_secs=idle_secs,
        )

    def _language(self, job: Transcribe) -> tuple[str | None, float | None]:
        if job.language != AUTO:
            return job.language, None
        detected: tuple[str, float] | None = self._log.detected
        return detected if detected is not None else (None, None)


class SegmentReader:
    """Reads segments as text. A character may be split over two segments: its bytes then go to the second."""

    def __init__(self, ctx: Any, seconds: float, words: bool) -> None:
        self._ctx, self._seconds, self._words = ctx, seconds, words
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._eot = pw.whisper_token_eot(ctx)

    def read(self, index: int) -> SegmentFound:
        text = self._decoder.decode(pw.whisper_full_get_segment_text(self._ctx, index))
        start = self._clamp(pw.whisper_full_get_segment_t0(self._ctx, index))
        end = max(start, self._clamp(pw.whisper_full_get_segment_t1(self._ctx, index)))
        return SegmentFound(
            start=start, end=end, text=text, words=self._read_words(index) if self._words else None
        )

    def _read_words(self, index: int) -> list[Word]:
        """Tokens up to the next that begins with a space are one word."""
        groups: list[list[Any]] = []
        for number in range(pw.whisper_full_n_tokens(self._ctx, index)):
            token = pw.whisper_full_get_token_data(self._ctx, index, number)
            if token.id >= self._eot:
                continue
            piece = bytes(pw.whisper_token_to_bytes(self._ctx, token.id))
            if not groups or piece.startswith(b" "):
                groups.append([])
            groups[-1].append((token, piece))
        return [
            Word(
                start=self._clamp(group[0][0].t0),
                end=self._clamp(group[-1][0].t1),
                text=b"".join(piece for _, piece in group).decode("utf-8", "replace"),
                probability=round(min(token.p for token, _ in group), 4),
            )
            for group in groups
        ]

    def _clamp(self, centiseconds: int) -> float:
        return float(round(min(max(0.0, centiseconds / 100), self._seconds), 3))


def read_audio(job: Transcribe) -> tuple[NDArray[np.float32], float]:
    """The joined pieces as whisper.cpp can bear them: contiguous, finite, never too short; and their true length."""
    pcm = np.memmap(job.pcm_path, np.float32, mode="r")
    audio = np.concatenate([pcm[start:end] for start, end in job.spans])
    seconds = audio.size / SAMPLE_RATE
    if audio.size < MIN_SAMPLES:
        audio = np.pad(audio, (0, MIN_SAMPLES - audio.size))
    # One NaN turns a whole window into "!!!!"; np.concatenate has made a copy that is ours to mend.
    return np.ascontiguousarray(np.nan_to_num(audio, copy=False, nan=0, posinf=0, neginf=0)), seconds


class Channel:
    """Frames in and out. A thread reads, so that an Abort is seen while whisper.cpp computes."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink
        self.commands: queue.Queue[Load | Transcribe] = queue.Queue()
        self.aborted = -1
        self._busy = threading.Event()
        """From a Transcribe to the end of its call."""
        threading.Thread(target=self._read, name="commands", daemon=True).start()

    def end_call(self, reply: AnyReply) -> None:
        """The last reply to a Transcribe: the next may come as soon as it is seen."""
        self._busy.clear()
        self.send(reply)

    def send(self, reply: AnyReply) -> None:
        self._sink.write(frame(reply))
        self._sink.flush()

    def _read(self) -> None:
        while (command := self._next()) is not None:
            if isinstance(command, Abort):
                self.aborted = command.call
                continue
            if isinstance(command, Transcribe):
                if self._busy.is_set():
                    # Its replies could not be told from those of the first: the worker has lost count.
                    sys.stderr.write("a second Transcribe came while one is running\n")
                    sys.stderr.flush()
                    os._exit(LOST_COUNT_STATUS)
                self._busy.set()
            self.commands.put(command)
        os._exit(
            0
        )  # the worker has closed the pipe or is dead; nothing here needs tidying, and the GPU is wanted back

    def _next(self) -> AnyCommand | None:
        header = self._source.read(LENGTH.size)
        if len(header) < LENGTH.size:
            return None
        command: AnyCommand = command_decoder.decode(self._source.read(body_length(header)))
        return command


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the worker decides
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not disturb the frames
    channel, log = Channel(sys.stdin.buffer, sink), WhisperLog()
    pw.whisper_log_set(log)
    begun, load = time.monotonic(), channel.commands.get()
    if not isinstance(load, Load):
        raise TypeError("the first command must be Load")
    try:
        engine = Engine(load, channel, log)
    except RuntimeError as error:
        channel.send(LoadFailed(reason=str(error)))
        os._exit(1)  # a context that failed to load must not be freed
    channel.send(Loaded(backend=log.backend_name(), load_secs=round(time.monotonic() - begun, 3)))
    while True:
        job = channel.commands.get()
        if not isinstance(job, Transcribe):
            raise TypeError("a model is loaded already")
        channel.end_call(engine.transcribe(job))


if __name__ == "__main__":
    try:
        main()
    finally:
        pw.whisper_log_set(None)  # else the interpreter aborts at exit
