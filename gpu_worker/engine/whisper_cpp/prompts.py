"""What the decoder reads before each window: words to prefer, the user's prompt, and the end of the text so far. Pure.

whisper has room for 223 tokens before a window. What is carried goes before every window, as far as whisper.cpp keeps it; the text
so far fills a part of what is left, which is small because repetition loops feed on it.
"""

from collections.abc import Callable, Sequence

import msgspec

from gpu_worker.engine.protocol import SaidSegment

MOST_TOKENS = 224
"""Half of whisper's text context, which is what prompts may fill; one token of it marks the beginning."""
SAID_TOKENS = 63
"""The most tokens of the text so far: few, because repetition loops feed on them."""
CARRIED_TOKENS = MOST_TOKENS - 1 - SAID_TOKENS
"""The most tokens of hotwords and prompt together."""
SAID_SEGMENTS = 4
"""The last segments that are looked at: their tokens seldom fit."""
TIME_STAMP_SECS, WINDOW_SECS = 0.02, 30.0
"""What time stamps count in, and up to where."""

Tokenize = Callable[[str], list[int]]


class Prompt(msgspec.Struct, frozen=True):
    """Tokens, and how much room whisper.cpp is to give them."""

    carried: list[int]
    said: list[int]
    context: int
    """`n_max_text_ctx`: the most tokens before a window, the mark included."""


def prompt_of(
    tokenize: Tokenize, first_time_stamp: int, hotwords: str, prompt: str, said: Sequence[SaidSegment]
) -> Prompt:
    """Return what goes before the windows of a stretch. Too long a prompt keeps its end, too many hotwords their beginning.

    `first_time_stamp` is the token for 0.00 s.
    """
    preferred = _tokens(tokenize, hotwords)[:CARRIED_TOKENS]
    room = CARRIED_TOKENS - len(preferred)
    asked = _tokens(tokenize, prompt)
    carried = preferred + asked[max(0, len(asked) - room) :]
    return Prompt(carried, _so_far(tokenize, first_time_stamp, said), len(carried) + SAID_TOKENS + 1)


def _so_far(tokenize: Tokenize, first_time_stamp: int, said: Sequence[SaidSegment]) -> list[int]:
    """Return the tokens of the last segments, each between its time stamps, as whisper itself leaves them behind a window.

    Without time stamps before it whisper writes few: long segments with times of whole seconds, and it leaves sentences out.
    """
    found: list[int] = []
    at = 0.0
    for segment in said[-SAID_SEGMENTS:]:
        begin, at = at, min(at + segment.secs, WINDOW_SECS)
        stamps = [first_time_stamp + round(time / TIME_STAMP_SECS) for time in (begin, at)]
        found += [stamps[0], *_tokens(tokenize, segment.text), stamps[1]]
    return found[-SAID_TOKENS:]


def _tokens(tokenize: Tokenize, text: str) -> list[int]:
    """Return the tokens of a text.

    It begins with a space, as in OpenAI's own code: without one the first word is split into tokens that whisper has never seen
    at the beginning of a text.
    """
    words = " ".join(text.split())
    return tokenize(f" {words}") if words else []
