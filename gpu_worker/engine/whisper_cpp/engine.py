"""One loaded whisper.cpp model, called through the C API that pywhispercpp binds.

`pywhispercpp.Model.transcribe` is not used: it drops the return code of whisper_full and keeps parameters from call to
call. Each guard here stands for a trap that was found in whisper.cpp 1.8.5 (docs/adr/0004).
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from gpu_worker.engine.library import CannotOpen, Samples
from gpu_worker.engine.protocol import (
    Aborted,
    AnyReply,
    Finished,
    LastReply,
    Load,
    ProgressMade,
    Rejected,
    Transcribe,
)
from gpu_worker.engine.whisper_cpp.binding import pw
from gpu_worker.engine.whisper_cpp.errors import FATAL, reason
from gpu_worker.engine.whisper_cpp.log import WhisperLog
from gpu_worker.engine.whisper_cpp.segments import SegmentReader
from gpu_worker.pcm import SAMPLE_RATE
from schemas.languages import AUTO
from schemas.options import Task, TranscribeOptions

MIN_SAMPLES = 3200
"""whisper.cpp reads behind the end of audio shorter than 201 samples, and ignores audio shorter than 110 ms."""
CONTEXT_TOKENS, CONTEXT_TOKENS_WITH_PROMPT = 64, 224
"""Tokens of earlier text before each window: few, because repetition loops feed on them; a long prompt gets the maximum."""
WARM_UP_SECS = 2
WARM_UP_TEMPERATURES = (0.0, 0.2)
"""The second one is the first step of whisper's fallback, which allocates memory of its own."""


class WhisperEngine:
    """See gpu_worker.engine.library.Engine."""

    def __init__(self, load: Load) -> None:
        """Load and warm up. Raises CannotOpen: after that the context must not be freed, so the process has to end."""
        self._threads = load.threads
        self._ended_at: float | None = None
        self._log = WhisperLog()
        pw.whisper_log_set(self._log)
        params = pw.whisper_context_default_params()
        params.use_gpu, params.flash_attn = load.use_gpu, load.flash_attn
        self._context: Any = pw.whisper_init_from_file_with_params(load.model_path, params)
        if not self._log.loaded:
            raise CannotOpen(self._log.last_error or "whisper.cpp could not load the model")
        self._warm_up(load.beam_size)

    @property
    def backend(self) -> str:
        """See Engine.backend."""
        return self._log.backend_name()

    def transcribe(
        self,
        job: Transcribe,
        audio: Samples,
        reply: Callable[[AnyReply], None],
        is_aborted: Callable[[], bool],
    ) -> LastReply:
        """See Engine.transcribe."""
        params = self._params(job.options, job.prompt)
        seconds = audio.size / SAMPLE_RATE
        reader = SegmentReader(self._context, seconds, job.options.words)

        def on_segment(_context: object, new: int) -> None:
            count = pw.whisper_full_n_segments(self._context)
            for index in range(count - new, count):
                reply(reader.read(index))

        pw.assign_new_segment_callback(params, on_segment)
        pw.assign_progress_callback(params, lambda percent: reply(ProgressMade(fraction=percent / 100)))
        pw.assign_abort_callback(params, is_aborted)
        self._log.detected = None
        pw.whisper_reset_timings(self._context)
        begun = time.monotonic()
        idle_secs = None if self._ended_at is None else begun - self._ended_at
        code = self._run(params, audio)
        self._ended_at = time.monotonic()
        if is_aborted():
            return Aborted()
        if code != 0:
            return Rejected(reason=reason(code), fatal=code in FATAL)
        return self._finished(job.options, engine_secs=self._ended_at - begun, idle_secs=idle_secs)

    def _run(self, params: Any, audio: Samples) -> int:
        """Call whisper_full; 0 is success."""
        if audio.size < MIN_SAMPLES:
            audio = np.pad(audio, (0, MIN_SAMPLES - audio.size))
        return int(pw.whisper_full(self._context, params, audio, audio.size))

    def _finished(
        self, options: TranscribeOptions, *, engine_secs: float, idle_secs: float | None
    ) -> Finished:
        language, probability = self._language(options)
        pw.whisper_print_timings(self._context)
        secs = self._log.secs
        has_spoken = pw.whisper_full_n_segments(self._context) > 0
        return Finished(
            language=language if has_spoken else None,
            language_probability=probability if has_spoken else None,
            engine_secs=engine_secs,
            mel_secs=secs["mel"],
            encode_secs=secs["encode"],
            tokens_secs=sum(secs[part] for part in ("sample", "decode", "batchd", "prompt")),
            idle_secs=idle_secs,
        )

    def _language(self, options: TranscribeOptions) -> tuple[str | None, float | None]:
        if options.language != AUTO:
            return options.language, None
        return self._log.detected if self._log.detected is not None else (None, None)

    def _warm_up(self, beam_size: int) -> None:
        """Allocate the most memory that any job can need: it grows with the first full-width beam and its fallback."""
        silence = np.zeros(WARM_UP_SECS * SAMPLE_RATE, np.float32)
        for temperature in WARM_UP_TEMPERATURES:
            options = TranscribeOptions(language="en", beam_size=beam_size, temperature=temperature)
            if (code := self._run(self._params(options, prompt=""), silence)) != 0:
                raise CannotOpen(f"the warm-up failed: {reason(code)}")

    def _params(self, options: TranscribeOptions, prompt: str) -> Any:
        """Return fresh parameters of whisper_full: a job's parameters must not reach the next one."""
        strategies = pw.whisper_sampling_strategy
        is_greedy = options.beam_size == 1
        params = pw.whisper_full_default_params(
            strategies.WHISPER_SAMPLING_GREEDY if is_greedy else strategies.WHISPER_SAMPLING_BEAM_SEARCH
        )
        params.beam_search = {"beam_size": options.beam_size, "patience": -1.0}
        params.greedy = {"best_of": options.beam_size}
        params.n_threads = self._threads
        params.language = options.language
        params.translate = options.task is Task.TRANSLATE
        params.temperature = options.temperature
        params.initial_prompt = prompt
        is_long = len(prompt) > CONTEXT_TOKENS * 4
        params.n_max_text_ctx = CONTEXT_TOKENS_WITH_PROMPT if is_long else CONTEXT_TOKENS
        params.no_context = True
        params.token_timestamps = options.words
        params.print_progress, params.print_realtime, params.print_timestamps = True, False, False
        # whisper.cpp prints its progress to stdout unless a callback takes it.
        pw.assign_progress_callback(params, lambda _percent: None)
        return params
