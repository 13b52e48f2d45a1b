"""The options of a job: how to transcribe, and what of the recording. A new option is a field here.

docs/USAGE.md, the form of POST /jobs and the check of a submission (schemas/submission.py) follow from it.
"""

from typing import Annotated

import msgspec

from schemas.enums import Asked
from schemas.languages import AUTO
from schemas.limits import MAX_PROMPT_CHARS, Label
from schemas.recordings import MAX_CHANNELS, MAX_SAMPLE_RATE, MAX_TRACK, MIN_SAMPLE_RATE, MIX, SampleFormat

MAX_BEAM_SIZE = 8
"""whisper.cpp refuses more than 8 decoders (WHISPER_MAX_DECODERS)."""
DEFAULT_BEAM_SIZE = 5
"""OpenAI's default."""


class Task(Asked):
    """What to do with the speech."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


class TranscribeOptions(msgspec.Struct, kw_only=True, frozen=True):
    """How to transcribe. The same names are form fields over HTTP."""

    language: Label = AUTO
    """A whisper language code (`en`, `de`, ...) or `auto`."""
    task: Task = Task.TRANSCRIBE
    """`translate` gives English."""
    vad: bool = True
    """Find speech first and skip long non-speech. False transcribes everything."""
    words: bool = False
    """Give each word its times."""
    prompt: Annotated[str, msgspec.Meta(max_length=MAX_PROMPT_CHARS)] = ""
    """A text that sets vocabulary and style, as if it had been said before."""
    beam_size: Annotated[int, msgspec.Meta(ge=1, le=MAX_BEAM_SIZE)] = DEFAULT_BEAM_SIZE
    """Number of beams; 1 is greedy decoding."""
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Randomness of decoding; 0 takes the most probable text."""
    channels: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHANNELS)] | Label = MIX
    """`mix` joins all channels so that no speaker is lost. A number takes one channel alone, counted from 1. `split` transcribes each
    channel by itself, and every segment says its `channel`: who speaks in a call or an interview."""
    track: Annotated[int, msgspec.Meta(ge=1, le=MAX_TRACK)] | None = None
    """Which audio track of the file, counted from 1. Without it: the default track, or the first one with sound where that is silent."""
    strict: bool = False
    """Fail a file that is cut off or damaged. Otherwise what can be heard is transcribed, and `warnings` says what is missing."""
    format: SampleFormat | None = None
    """The file is samples without a header, of this kind."""
    sample_rate: Annotated[int, msgspec.Meta(ge=MIN_SAMPLE_RATE, le=MAX_SAMPLE_RATE)] | None = None
    """Samples per second, with `format` only. Without it: 16000."""
    channel_count: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHANNELS)] | None = None
    """Channels, with `format` only. Without it: 1."""
