"""One state of a loaded model: what whisper.cpp keeps of a call, from the spectrogram to the text."""

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import numpy as np

from gpu_worker.engine.library import Samples
from gpu_worker.engine.whisper_cpp.capi import (
    BEAM_SEARCH,
    Abort,
    EncoderBegin,
    FullParams,
    NewSegment,
    Progress,
    StateCounters,
    lib,
)
from gpu_worker.engine.whisper_cpp.words import Token

GROWING_SAMPLES, LEAST_AUDIO_CONTEXT = 3200, 64
"""A fifth of a second, in an audio context of 1.3 s instead of 30."""
CENTISECOND = 0.01
LEAST_LOGPROB = -100.0
"""Stands for minus infinity, which is no number in JSON."""


class NoMemoryForState(Exception):
    """whisper.cpp has no memory for a state."""


class Counters(msgspec.Struct, frozen=True):
    """What a state has counted since it was made. Times are seconds."""

    mel_secs: float
    encode_secs: float
    tokens_secs: float
    encoded: int
    """Runs of the encoder."""
    fallbacks: int
    """Attempts at a window that were given up for the next temperature."""


class Watch:
    """What is called back during one call. An exception of ours ends the call, and is raised when it has ended."""

    def __init__(
        self,
        on_window: Callable[[], None],
        on_segments: Callable[[int], None],
        on_progress: Callable[[int], None],
        is_aborted: Callable[[], bool],
    ) -> None:
        """`on_window` is called before a window is encoded, `on_segments` gets how many segments are new, `on_progress` a percentage."""
        self.error: BaseException | None = None
        # ctypes does not keep callbacks alive, and whisper.cpp has only their addresses.
        self._callbacks = (
            EncoderBegin(lambda _context, _state, _data: self._guard(on_window)),
            NewSegment(lambda _context, _state, new, _data: self._guard(partial(on_segments, new)) and None),
            Progress(
                lambda _context, _state, percent, _data: self._guard(partial(on_progress, percent)) and None
            ),
            Abort(lambda _data: self._is_over(is_aborted)),
        )

    def install(self, params: FullParams) -> None:
        """Have a call made with `params` watched. This object must live longer than the call."""
        params.encoder_begin_callback, params.new_segment_callback = self._callbacks[:2]
        params.progress_callback, params.abort_callback = self._callbacks[2:]

    def _is_over(self, is_aborted: Callable[[], bool]) -> bool:
        return self.error is not None or is_aborted()

    def _guard(self, function: Callable[[], None]) -> bool:
        """Call a function; whether the call of whisper.cpp may go on."""
        try:
            if self.error is None:
                function()
        except BaseException as error:  # noqa: BLE001 - it is raised by the caller of `run`
            # An exception must not pass through C code.
            self.error = error
        return self.error is None


class State:
    """A state. It must be closed, unless a call has failed with a fatal code (errors.py)."""

    def __init__(self, context: Any) -> None:
        """Raises NoMemoryForState."""
        self._context = context
        self._state = lib.whisper_init_state(context)
        if not self._state:
            raise NoMemoryForState
        self._eot = int(lib.whisper_token_eot(context))
        self._before = Counters(0.0, 0.0, 0.0, 0, 0)

    def grow(self, beam_size: int, threads: int) -> int:
        """Take the memory of the widest beam now, so that no other program can have it when a job needs it. Returns as `run`.

        A state begins with the memory for one decoder. This is a call with hardly any audio, always the same, so that it changes
        nothing for the calls behind it.
        """
        params = lib.whisper_full_default_params(BEAM_SEARCH)
        params.n_threads, params.language = threads, b"en"
        params.beam_search.beam_size = params.greedy.best_of = beam_size
        params.temperature_inc, params.max_tokens, params.single_segment = 0.0, 1, True
        params.audio_ctx = LEAST_AUDIO_CONTEXT
        params.print_progress = params.print_realtime = params.print_timestamps = False
        code = self.run(params, np.zeros(GROWING_SAMPLES, np.float32))
        if code == 0:
            self._before = self._counted()
        return code

    def close(self) -> None:
        """Give its memory back."""
        lib.whisper_free_state(self._state)

    def run(self, params: FullParams, audio: Samples) -> int:
        """Call whisper_full; 0 is success."""
        samples = audio.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        return int(lib.whisper_full_with_state(self._context, self._state, params, samples, audio.size))

    def remember(self, params: FullParams, tokens: list[int]) -> None:
        """Have the next call take `tokens` for the text so far.

        whisper.cpp has one field for that and for the prompt that is carried before every window. It fills its memory of the text
        before it looks whether there is anything to do, so that a call that has nothing to do sets it.
        """
        params.prompt_tokens, params.prompt_n_tokens = (ctypes.c_int32 * len(tokens))(*tokens), len(tokens)
        params.carry_initial_prompt, params.no_context, params.language = False, True, b"en"
        params.duration_ms = 100
        params.encoder_begin_callback = _NEVER
        lib.whisper_full_with_state(self._context, self._state, params, None, 0)

    @property
    def language(self) -> str:
        """Code of the language of the last call."""
        return str(lib.whisper_lang_str(lib.whisper_full_lang_id_from_state(self._state)).decode())

    @property
    def segments(self) -> int:
        """Number of segments of the last call so far."""
        return int(lib.whisper_full_n_segments_from_state(self._state))

    def times(self, segment: int) -> tuple[float, float]:
        """Return when a segment begins and ends, in seconds from the start of the audio."""
        start = lib.whisper_full_get_segment_t0_from_state(self._state, segment)
        return start * CENTISECOND, lib.whisper_full_get_segment_t1_from_state(
            self._state, segment
        ) * CENTISECOND

    def tokens(self, segment: int) -> list[Token]:
        """Return the text tokens of a segment: neither time stamps nor marks."""
        data = (
            lib.whisper_full_get_token_data_from_state(self._state, segment, number)
            for number in range(lib.whisper_full_n_tokens_from_state(self._state, segment))
        )
        return [
            Token(
                id=token.id,
                piece=lib.whisper_token_to_str(self._context, token.id),
                start=token.t0 * CENTISECOND,
                end=token.t1 * CENTISECOND,
                probability=token.p,
                logprob=max(token.plog, LEAST_LOGPROB),
            )
            for token in data
            if token.id < self._eot
        ]

    def counters(self) -> Counters:
        """Return what the state has counted since it has grown."""
        now, before = self._counted(), self._before
        return Counters(*(getattr(now, name) - getattr(before, name) for name in Counters.__struct_fields__))

    def _counted(self) -> Counters:
        found = ctypes.cast(self._state, ctypes.POINTER(StateCounters)).contents
        tokens = found.t_sample_us + found.t_decode_us + found.t_batchd_us + found.t_prompt_us
        return Counters(
            mel_secs=found.t_mel_us / 1e6,
            encode_secs=found.t_encode_us / 1e6,
            tokens_secs=tokens / 1e6,
            encoded=found.n_encode,
            fallbacks=found.n_fail_p,
        )


def tokenize(context: Any, text: str) -> list[int]:
    """Return the tokens of a text in the vocabulary of a loaded model."""
    raw = text.encode()
    # There are never more tokens than bytes.
    tokens = (ctypes.c_int32 * max(1, len(raw)))()
    return list(tokens[: max(0, lib.whisper_tokenize(context, raw, tokens, len(tokens)))])


_NEVER = EncoderBegin(lambda _context, _state, _data: False)
