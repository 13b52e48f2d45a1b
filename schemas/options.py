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
LEAST_TEMPERATURE_INC = 0.05
"""whisper.cpp makes a list of all steps up to 1, so that a tiny step would take all memory."""
MAX_AUDIO_SECS = 1e6
"""Above the length of any recording."""
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
    """A text that sets vocabulary and style, as if it had been said before. It goes before every window of 30 s."""
    hotwords: Annotated[str, msgspec.Meta(max_length=MAX_PROMPT_CHARS)] = ""
    """Words and names that the text should prefer. They go before the prompt."""
    beam_size: Annotated[int, msgspec.Meta(ge=1, le=MAX_BEAM_SIZE)] = DEFAULT_BEAM_SIZE
    """Number of beams; 1 is greedy decoding."""
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Randomness of decoding; 0 takes the most probable text."""
    temperature_inc: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    """How much warmer a window is tried again that has failed: 0 tries it once, otherwise at least 0.05."""
    entropy_threshold: Annotated[float, msgspec.Meta(ge=0, le=100)] = 2.4
    """A window whose last tokens have a lower entropy repeats itself, and has failed."""
    logprob_threshold: Annotated[float, msgspec.Meta(ge=-100, le=0)] = -1.0
    """A window whose mean log probability is lower has failed."""
    no_speech_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.6
    """Passed on to whisper.cpp, whose own measure of silence has no dependable effect: `vad` is what finds speech."""
    suppress_non_speech: bool = True
    """Write no marks such as `[BLANK_AUDIO]`, `(music)` or `♪`."""
    max_segment_chars: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    """The longest segment, in characters; 0 leaves segments as whisper makes them."""
    split_on_word: bool = False
    """With `max_segment_chars`: split between words. Otherwise between tokens."""
    offset_secs: Annotated[float, msgspec.Meta(ge=0, le=MAX_AUDIO_SECS)] = 0.0
    """Where in the recording to begin, in seconds. Times stay those of the whole recording."""
    duration_secs: Annotated[float, msgspec.Meta(gt=0, le=MAX_AUDIO_SECS)] | None = None
    """How much of the recording to transcribe, in seconds. Without it: to its end."""
    language_changes: bool = False
    """With `language=auto`: find the language again every two and a half minutes or so. Each segment then says its `language`."""
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
