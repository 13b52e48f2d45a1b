"""The part of whisper.cpp's C API that pywhispercpp does not bind, called in the library that its wheel carries.

With a state of its own for each stretch, nothing of an earlier call reaches a text (docs/adr/0024). ctypes knows nothing of C
headers, so that the structures are written down here, as in whisper.h of 1.8.5, and `check_layout` compares what is read through
them with what the binding reads.
"""

import ctypes
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from typing import Any

from gpu_worker.engine.whisper_cpp.binding import pw

NewSegment = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_int, c_void_p)
"""(context, state, number of new segments, user data)"""
Progress = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_int, c_void_p)
"""(context, state, percent, user data)"""
EncoderBegin = ctypes.CFUNCTYPE(c_bool, c_void_p, c_void_p, c_void_p)
"""(context, state, user data): whether to go on. It is called once for each window of 30 s."""
Abort = ctypes.CFUNCTYPE(c_bool, c_void_p)
"""(user data): whether to give up. It is called after each run of the encoder and of the decoder."""


class Greedy(Structure):
    """The anonymous structure `greedy`."""

    _fields_ = (("best_of", c_int),)


class BeamSearch(Structure):
    """The anonymous structure `beam_search`."""

    _fields_ = (("beam_size", c_int), ("patience", c_float))


class VadParams(Structure):
    """`whisper_vad_params`, which is at the end of FullParams."""

    _fields_ = (
        ("threshold", c_float),
        ("min_speech_duration_ms", c_int),
        ("min_silence_duration_ms", c_int),
        ("max_speech_duration_s", c_float),
        ("speech_pad_ms", c_int),
        ("samples_overlap", c_float),
    )


class FullParams(Structure):
    """`whisper_full_params`."""

    _fields_ = (
        ("strategy", c_int),
        ("n_threads", c_int),
        ("n_max_text_ctx", c_int),
        ("offset_ms", c_int),
        ("duration_ms", c_int),
        ("translate", c_bool),
        ("no_context", c_bool),
        ("no_timestamps", c_bool),
        ("single_segment", c_bool),
        ("print_special", c_bool),
        ("print_progress", c_bool),
        ("print_realtime", c_bool),
        ("print_timestamps", c_bool),
        ("token_timestamps", c_bool),
        ("thold_pt", c_float),
        ("thold_ptsum", c_float),
        ("max_len", c_int),
        ("split_on_word", c_bool),
        ("max_tokens", c_int),
        ("debug_mode", c_bool),
        ("audio_ctx", c_int),
        ("tdrz_enable", c_bool),
        ("suppress_regex", c_char_p),
        ("initial_prompt", c_char_p),
        ("carry_initial_prompt", c_bool),
        ("prompt_tokens", POINTER(c_int32)),
        ("prompt_n_tokens", c_int),
        ("language", c_char_p),
        ("detect_language", c_bool),
        ("suppress_blank", c_bool),
        ("suppress_nst", c_bool),
        ("temperature", c_float),
        ("max_initial_ts", c_float),
        ("length_penalty", c_float),
        ("temperature_inc", c_float),
        ("entropy_thold", c_float),
        ("logprob_thold", c_float),
        ("no_speech_thold", c_float),
        ("greedy", Greedy),
        ("beam_search", BeamSearch),
        ("new_segment_callback", NewSegment),
        ("new_segment_callback_user_data", c_void_p),
        ("progress_callback", Progress),
        ("progress_callback_user_data", c_void_p),
        ("encoder_begin_callback", EncoderBegin),
        ("encoder_begin_callback_user_data", c_void_p),
        ("abort_callback", Abort),
        ("abort_callback_user_data", c_void_p),
        ("logits_filter_callback", c_void_p),
        ("logits_filter_callback_user_data", c_void_p),
        ("grammar_rules", c_void_p),
        ("n_grammar_rules", c_size_t),
        ("i_start_rule", c_size_t),
        ("grammar_penalty", c_float),
        ("vad", c_bool),
        ("vad_model_path", c_char_p),
        ("vad_params", VadParams),
    )


class Aheads(Structure):
    """`whisper_aheads`."""

    _fields_ = (("n_heads", c_size_t), ("heads", c_void_p))


class ContextParams(Structure):
    """`whisper_context_params`."""

    _fields_ = (
        ("use_gpu", c_bool),
        ("flash_attn", c_bool),
        ("gpu_device", c_int),
        ("dtw_token_timestamps", c_bool),
        ("dtw_aheads_preset", c_int),
        ("dtw_n_top", c_int),
        ("dtw_aheads", Aheads),
        ("dtw_mem_size", c_size_t),
    )


class TokenData(Structure):
    """`whisper_token_data`. Times are hundredths of a second; `plog` is a natural logarithm."""

    _fields_ = (
        ("id", c_int32),
        ("tid", c_int32),
        ("p", c_float),
        ("plog", c_float),
        ("pt", c_float),
        ("ptsum", c_float),
        ("t0", c_int64),
        ("t1", c_int64),
        ("t_dtw", c_int64),
        ("vlen", c_float),
    )


class StateCounters(Structure):
    """The beginning of `whisper_state`, which no function shows. Times are microseconds."""

    _fields_ = (
        ("t_sample_us", c_int64),
        ("t_encode_us", c_int64),
        ("t_decode_us", c_int64),
        ("t_batchd_us", c_int64),
        ("t_prompt_us", c_int64),
        ("t_mel_us", c_int64),
        ("n_sample", c_int32),
        ("n_encode", c_int32),
        ("n_decode", c_int32),
        ("n_batchd", c_int32),
        ("n_prompt", c_int32),
        ("n_fail_p", c_int32),
        ("n_fail_h", c_int32),
    )


_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "whisper_context_default_params": (ContextParams, []),
    "whisper_full_default_params": (FullParams, [c_int]),
    "whisper_init_from_file_with_params_no_state": (c_void_p, [c_char_p, ContextParams]),
    "whisper_init_state": (c_void_p, [c_void_p]),
    "whisper_free_state": (None, [c_void_p]),
    "whisper_full_with_state": (c_int, [c_void_p, c_void_p, FullParams, POINTER(c_float), c_int]),
    "whisper_full_n_segments_from_state": (c_int, [c_void_p]),
    "whisper_full_lang_id_from_state": (c_int, [c_void_p]),
    "whisper_full_get_segment_t0_from_state": (c_int64, [c_void_p, c_int]),
    "whisper_full_get_segment_t1_from_state": (c_int64, [c_void_p, c_int]),
    "whisper_full_get_segment_text_from_state": (c_char_p, [c_void_p, c_int]),
    "whisper_full_n_tokens_from_state": (c_int, [c_void_p, c_int]),
    "whisper_full_get_token_id_from_state": (c_int32, [c_void_p, c_int, c_int]),
    "whisper_full_get_token_data_from_state": (TokenData, [c_void_p, c_int, c_int]),
    "whisper_tokenize": (c_int, [c_void_p, c_char_p, POINTER(c_int32), c_int]),
    "whisper_token_to_str": (c_char_p, [c_void_p, c_int32]),
    "whisper_token_eot": (c_int32, [c_void_p]),
    "whisper_token_beg": (c_int32, [c_void_p]),
    "whisper_is_multilingual": (c_int, [c_void_p]),
    "whisper_lang_str": (c_char_p, [c_int]),
}


class LayoutError(Exception):
    """The library's structures are not those that are written down here."""


def _bind() -> ctypes.CDLL:
    # The handle of the extension module finds the symbols of the libraries that it is linked with.
    library = ctypes.CDLL(pw.__file__)
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


lib = _bind()
GREEDY, BEAM_SEARCH = 0, 1
"""`whisper_sampling_strategy`."""


SHOWN = (
    "n_threads",
    "n_max_text_ctx",
    "no_context",
    "print_progress",
    "print_timestamps",
    "thold_pt",
    "thold_ptsum",
    "suppress_blank",
    "max_initial_ts",
    "length_penalty",
    "temperature_inc",
    "entropy_thold",
    "logprob_thold",
    "no_speech_thold",
)
"""Fields that the binding shows and whose default is neither 0 nor false, so that a wrong place would be seen."""


def check_layout() -> None:
    """Compare the default parameters as they are read here with those of the binding, from the first field to the last.

    Raises LayoutError.
    """
    strategy = pw.whisper_sampling_strategy.WHISPER_SAMPLING_BEAM_SEARCH
    theirs, ours = pw.whisper_full_default_params(strategy), lib.whisper_full_default_params(BEAM_SEARCH)
    wrong = [name for name in SHOWN if getattr(theirs, name) != getattr(ours, name)]
    if theirs.beam_search != {"beam_size": ours.beam_search.beam_size, "patience": ours.beam_search.patience}:
        wrong.append("beam_search")
    if any(
        getattr(theirs.vad_params, name) != getattr(ours.vad_params, name) for name, _ in VadParams._fields_
    ):
        wrong.append("vad_params")
    if wrong:
        raise LayoutError(f"whisper.cpp has other parameters than are known here: {', '.join(wrong)}")
