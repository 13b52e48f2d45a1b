"""The protocol between the worker and the engine process: msgpack frames over the engine's stdin and stdout.

The worker sends one Load, then any number of Transcribe. Abort may be sent at any time. Each Transcribe is answered by any
number of SegmentFound and ProgressMade, and then by exactly one LastReply. The engine exits at the end of its stdin. A frame
is a 4-byte little-endian length and that many bytes.
"""

import struct

import msgspec

from schemas.options import TranscribeOptions

LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Far above the largest segment: a larger length means that the stream is out of step."""


class Command(msgspec.Struct, kw_only=True, frozen=True, tag_field="command"):
    """Base of what the worker sends to the engine."""


class Load(Command, kw_only=True, frozen=True, tag="load"):
    """Load a model. Answered by Loaded or LoadFailed."""

    model_path: str
    threads: int
    beam_size: int
    """The widest beam that jobs may ask for: the warm-up allocates the memory for it."""
    use_gpu: bool = True
    flash_attn: bool = True


class SaidSegment(msgspec.Struct, kw_only=True, frozen=True):
    """A segment before this call."""

    text: str
    secs: float
    """Its length."""


class Transcribe(Command, kw_only=True, frozen=True, tag="transcribe"):
    """Transcribe one stretch of a job."""

    call: int
    """Number of this call, which counts up. An Abort names the call that it means."""
    pcm_path: str
    """A file of samples as gpu_worker/pcm.py describes them."""
    spans: list[tuple[int, int]]
    """(first sample, sample behind the last) of each piece. The pieces are joined in this order."""
    options: TranscribeOptions
    """The job's options. `language` is already the one that was found in an earlier stretch of the job."""
    said: list[SaidSegment]
    """The last segments so far, oldest first. They come behind the prompt of the options."""


class Abort(Command, kw_only=True, frozen=True, tag="abort"):
    """End the call with this number soon. Ignored where that call has ended."""

    call: int


class Reply(msgspec.Struct, kw_only=True, frozen=True, tag_field="reply"):
    """Base of what the engine sends to the worker."""


class Loaded(Reply, kw_only=True, frozen=True, tag="loaded"):
    """The model is loaded and warm."""

    backend: str
    """Name of the device that computes; `cpu` where no GPU is used."""
    load_secs: float
    """Seconds for load and warm-up."""


class LoadFailed(Reply, kw_only=True, frozen=True, tag="load_failed"):
    """The library refuses the model. The engine exits after this."""

    reason: str


class HeardWord(msgspec.Struct, kw_only=True, frozen=True):
    """One word. Times as in SegmentFound."""

    start: float
    end: float
    text: str
    probability: float
    tokens: list[int] = []
    """Ids of its tokens in the vocabulary of the model."""
    pieces: list[str] = []
    """The text of each token; empty where a token is only a part of a character."""


class SegmentFound(Reply, kw_only=True, frozen=True, tag="segment"):
    """One segment. Times are seconds from the start of the joined pieces, and never behind their end."""

    start: float
    end: float
    words: list[HeardWord]
    """All of its text, spaces included."""
    language: str | None = None
    """Code of the language in which the call is decoded."""
    temperature: float = 0.0
    """At which it was decoded."""
    avg_logprob: float = 0.0
    """Mean of the natural logarithms of the probabilities of its tokens."""

    @property
    def text(self) -> str:
        """The text, with whisper's leading space."""
        return "".join(word.text for word in self.words)


class ProgressMade(Reply, kw_only=True, frozen=True, tag="progress"):
    """How much of the call's audio is done, from 0 to 1."""

    fraction: float


class Finished(Reply, kw_only=True, frozen=True, tag="finished"):
    """The call has ended well. All times are in seconds."""

    language: str | None
    """Language code; None where nothing was said."""
    language_probability: float | None
    """From 0 to 1; None where the language was given."""
    engine_secs: float
    mel_secs: float = 0.0
    encode_secs: float = 0.0
    tokens_secs: float = 0.0
    """The share of the decoder in `engine_secs`, sampling included."""
    windows: int = 0
    """Windows of up to 30 s that were encoded."""
    generated: int = 0
    """Text tokens in the segments."""
    fallbacks: int = 0
    """Attempts at a window that were given up for a higher temperature."""
    idle_secs: float | None = None
    """Time since the end of the previous call; None for the first call."""


class Aborted(Reply, kw_only=True, frozen=True, tag="aborted"):
    """The call has ended because of an Abort."""


class Rejected(Reply, kw_only=True, frozen=True, tag="rejected"):
    """The library returned an error. After a fatal one the engine process must not be used any more."""

    reason: str
    fatal: bool
    is_option: bool = False
    """Whether it is an option of the job that this model cannot carry out; `reason` is a whole sentence then."""


AnyCommand = Load | Transcribe | Abort
LastReply = Finished | Aborted | Rejected
"""Exactly one of these ends a call."""
AnyReply = Loaded | LoadFailed | SegmentFound | ProgressMade | Finished | Aborted | Rejected

_encoder = msgspec.msgpack.Encoder()
command_decoder = msgspec.msgpack.Decoder(AnyCommand)
reply_decoder = msgspec.msgpack.Decoder(AnyReply)


def frame(message: AnyCommand | AnyReply) -> bytes:
    """Return one message as it is written to the pipe."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def body_length(header: bytes) -> int:
    """Return the length that the first four bytes of a frame announce. Raises ValueError where it is out of range."""
    (length,) = LENGTH.unpack(header)
    if not 0 < length <= MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {length} bytes is none of ours")
    return int(length)
