"""The options of a job as parameters of whisper_full."""

import ctypes

from gpu_worker.engine.whisper_cpp.capi import BEAM_SEARCH, GREEDY, FullParams, lib
from gpu_worker.engine.whisper_cpp.prompts import Prompt
from schemas.options import Task, TranscribeOptions


def parameters(options: TranscribeOptions, prompt: Prompt, threads: int, language: str) -> FullParams:
    """Return fresh parameters: a job's parameters must not reach the next one."""
    params: FullParams = lib.whisper_full_default_params(GREEDY if options.beam_size == 1 else BEAM_SEARCH)
    params.n_threads = threads
    params.greedy.best_of = options.beam_size
    params.beam_search.beam_size, params.beam_search.patience = options.beam_size, -1.0
    params.language, params.translate = language.encode(), options.task is Task.TRANSLATE
    params.temperature, params.temperature_inc = options.temperature, options.temperature_inc
    params.entropy_thold, params.logprob_thold = options.entropy_threshold, options.logprob_threshold
    params.no_speech_thold = options.no_speech_threshold
    params.suppress_nst = options.suppress_non_speech
    # Without them nobody knows which words of a segment lie behind a pause that was cut out.
    params.token_timestamps = True
    params.n_max_text_ctx = prompt.context
    # What is remembered of the text so far was set in the state (State.remember).
    params.no_context = False
    if prompt.carried:
        params.prompt_tokens = (ctypes.c_int32 * len(prompt.carried))(*prompt.carried)
        params.prompt_n_tokens, params.carry_initial_prompt = len(prompt.carried), True
    params.print_progress = params.print_realtime = params.print_timestamps = False
    return params
