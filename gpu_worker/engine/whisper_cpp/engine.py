"""One loaded whisper.cpp model, called through its C API with a fresh state for each call.

A text must depend on nothing but audio, options and model, and a state keeps random generators and more from call to call
(docs/adr/0024). Each guard here stands for a trap that was found in whisper.cpp 1.8.5 (docs/adr/0004).
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
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
from gpu_worker.engine.whisper_cpp import capi
from gpu_worker.engine.whisper_cpp.binding import pw
from gpu_worker.engine.whisper_cpp.english import ENGLISH, beyond_english
from gpu_worker.engine.whisper_cpp.errors import FATAL, reason
from gpu_worker.engine.whisper_cpp.log import WhisperLog
from gpu_worker.engine.whisper_cpp.parameters import parameters
from gpu_worker.engine.whisper_cpp.prompts import Prompt, prompt_of
from gpu_worker.engine.whisper_cpp.segments import SegmentReader
from gpu_worker.engine.whisper_cpp.state import NoMemoryForState, State, Watch, tokenize
from gpu_worker.pcm import SAMPLE_RATE
from schemas.languages import AUTO
from schemas.options import TranscribeOptions

MIN_SAMPLES = 3200
"""whisper.cpp reads behind the end of audio shorter than 201 samples, and ignores audio shorter than 110 ms."""
NO_MEMORY = -7
"""The return code of whisper_full for the same thing."""
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
        try:
            capi.check_layout()
        except capi.LayoutError as error:
            raise CannotOpen(str(error)) from error
        params = capi.lib.whisper_context_default_params()
        params.use_gpu, params.flash_attn = load.use_gpu, load.flash_attn
        self._context: Any = capi.lib.whisper_init_from_file_with_params_no_state(
            load.model_path.encode(), params
        )
        if not self._context:
            raise CannotOpen(self._log.last_error or "whisper.cpp could not load the model")
        self._first_time_stamp = int(capi.lib.whisper_token_beg(self._context))
        self._is_multilingual = bool(capi.lib.whisper_is_multilingual(self._context))
        self._state: State | None = None
        """The state of the next call. It is made while nobody waits for it."""
        self._beam_size = load.beam_size
        self._warm_up()
        self._backend = self._log.backend_name()
        self.prepare()

    @property
    def backend(self) -> str:
        """See Engine.backend."""
        return self._backend

    def prepare(self) -> None:
        """See Engine.prepare."""
        if self._state is None:
            try:
                self._state = self._grown()
            except NoMemoryForState:
                # The next call tries again, and tells its caller.
                sys.stderr.write("there is no memory for the next state\n")

    def _grown(self) -> State:
        """Return a new state with the memory of the widest beam. Raises NoMemoryForState."""
        self._log.expect_backend()
        state = State(self._context)
        if (code := state.grow(self._beam_size, self._threads)) in FATAL:
            # whisper.cpp has freed it.
            raise NoMemoryForState
        if code != 0:
            state.close()
            raise NoMemoryForState
        return state

    def transcribe(
        self,
        job: Transcribe,
        audio: Samples,
        reply: Callable[[AnyReply], None],
        is_aborted: Callable[[], bool],
    ) -> LastReply:
        """See Engine.transcribe."""
        if not self._is_multilingual and (wrong := beyond_english(job.options)) is not None:
            return Rejected(reason=wrong, fatal=False, is_option=True)
        begun = time.monotonic()
        idle_secs = None if self._ended_at is None else begun - self._ended_at
        self.prepare()
        state, self._state = self._state, None
        if state is None:
            return Rejected(reason=reason(NO_MEMORY), fatal=True)
        if (now := self._log.backend_name()) != self._backend:
            # Each state opens its backends, and whisper.cpp falls back to the CPU without an error.
            return Rejected(reason=f"a state was made on {now} instead of {self._backend}", fatal=True)
        ended = self._call(state, job, audio, reply, is_aborted)
        self._ended_at = time.monotonic()
        if isinstance(ended, Finished):
            ended = msgspec.structs.replace(ended, engine_secs=self._ended_at - begun, idle_secs=idle_secs)
        if not (isinstance(ended, Rejected) and ended.fatal):
            state.close()
        return ended

    def _call(
        self,
        state: State,
        job: Transcribe,
        audio: Samples,
        reply: Callable[[AnyReply], None],
        is_aborted: Callable[[], bool],
    ) -> LastReply:
        options = job.options
        reader = SegmentReader(state, audio.size / SAMPLE_RATE, options.temperature, options.temperature_inc)

        def on_segments(new: int) -> None:
            for segment in reader.new(new):
                reply(segment)

        watch = Watch(
            reader.window_begins,
            on_segments,
            lambda percent: reply(ProgressMade(fraction=percent / 100)),
            is_aborted,
        )
        self._log.detected = None
        words = partial(tokenize, self._context)
        prompt = prompt_of(words, self._first_time_stamp, options.hotwords, options.prompt, job.said)
        code = self._run(state, options, prompt, audio, watch)
        if watch.error is not None:
            raise watch.error
        if is_aborted():
            return Aborted()
        if code != 0:
            return Rejected(reason=reason(code), fatal=code in FATAL)
        return self._finished(state, options, reader)

    def _run(
        self, state: State, options: TranscribeOptions, prompt: Prompt, audio: Samples, watch: Watch | None
    ) -> int:
        """Call whisper_full; 0 is success."""
        if audio.size < MIN_SAMPLES:
            audio = np.pad(audio, (0, MIN_SAMPLES - audio.size))
        language = options.language if self._is_multilingual else ENGLISH
        state.remember(parameters(options, prompt, self._threads, ENGLISH), prompt.said)
        params = parameters(options, prompt, self._threads, language)
        if watch is not None:
            watch.install(params)
        return state.run(params, audio)

    def _finished(self, state: State, options: TranscribeOptions, reader: SegmentReader) -> Finished:
        counters = state.counters()
        language, probability = self._language(state, options)
        has_spoken = state.segments > 0
        return Finished(
            language=language if has_spoken else None,
            language_probability=probability if has_spoken else None,
            engine_secs=0.0,
            mel_secs=counters.mel_secs,
            encode_secs=counters.encode_secs,
            tokens_secs=counters.tokens_secs,
            windows=reader.windows,
            generated=reader.tokens,
            fallbacks=counters.fallbacks,
        )

    def _language(self, state: State, options: TranscribeOptions) -> tuple[str | None, float | None]:
        if not self._is_multilingual:
            return ENGLISH, None
        if options.language != AUTO:
            return options.language, None
        return self._log.detected if self._log.detected is not None else (state.language, None)

    def _warm_up(self) -> None:
        """Allocate the most memory that any job can need: it grows with the first full-width beam and its fallback."""
        silence = np.zeros(WARM_UP_SECS * SAMPLE_RATE, np.float32)
        for temperature in WARM_UP_TEMPERATURES:
            options = TranscribeOptions(language=ENGLISH, beam_size=self._beam_size, temperature=temperature)
            try:
                state = self._grown()
            except NoMemoryForState as error:
                raise CannotOpen(reason(NO_MEMORY)) from error
            if (code := self._run(state, options, Prompt([], [], 0), silence, None)) != 0:
                raise CannotOpen(f"the warm-up failed: {reason(code)}")
            if state.counters().encoded != 1:
                raise CannotOpen("whisper.cpp counts in other places than is known here")
            state.close()
