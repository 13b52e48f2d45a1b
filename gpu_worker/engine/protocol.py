"""What the worker and the engine process say to each other: msgpack frames over the engine's stdin and stdout.

The worker speaks first (Load), then any number of Transcribe; Abort may come at any time. Each Transcribe is answered
by SegmentFound and ProgressMade in any number and then by exactly one of Finished, Aborted and Rejected. The end of
stdin means: exit. A frame is a 4-byte little-endian length and that many bytes.
"""

import struct

import msgspec

from schemas.jobs import TranscribeOptions, Word

LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 16 * 1024 * 1024


class Command(msgspec.Struct, kw_only=True, frozen=True, tag_field="command"):
    """Worker to engine."""


class Load(Command, kw_only=True, frozen=True, tag="load"):
    model_path: str
    threads: int
    beam_size: int
    """The widest beam that will be asked for: the warm-up takes the memory that it needs."""
    use_gpu: bool = True
    flash_attn: bool = True


class Transcribe(Command, kw_only=True, frozen=True, tag="transcribe"):
    call: int
    """Number of this call, which counts up. An Abort names the call that it means."""
    pcm_path: str
    """A file of samples as gpu_worker/pcm.py describes them."""
    spans: list[tuple[int, int]]
    """(first sample, sample behind the last) of each piece. The pieces are joined in this order."""
    options: TranscribeOptions
    """The job's options. `language` is already the one that was found in an earlier stretch of the job."""
    prompt: str
    """The prompt of this call: that of the options, followed by the end of the text so far."""


class Abort(Command, kw_only=True, frozen=True, tag="abort"):
    call: int


class Reply(msgspec.Struct, kw_only=True, frozen=True, tag_field="reply"):
    """Engine to worker."""


class Loaded(Reply, kw_only=True, frozen=True, tag="loaded"):
    backend: str
    """A CUDA device's name, or `cpu`."""
    load_secs: float
    """Warm-up included."""


class LoadFailed(Reply, kw_only=True, frozen=True, tag="load_failed"):
    reason: str


class SegmentFound(Reply, kw_only=True, frozen=True, tag="segment"):
    """Times in seconds from the start of the joined pieces, never beyond their end."""

    start: float
    end: float
    text: str
    words: list[Word] | None


class ProgressMade(Reply, kw_only=True, frozen=True, tag="progress"):
    fraction: float


class Finished(Reply, kw_only=True, frozen=True, tag="finished"):
    language: str | None
    """None where nothing was said."""
    language_probability: float | None
    """None where the language was given."""
    engine_secs: float
    mel_secs: float = 0.0
    encode_secs: float = 0.0
    tokens_secs: float = 0.0
    """The decoder's share of engine_secs, sampling included."""
    idle_secs: float | None = None
    """Since the end of the call before; None for the first."""


class Aborted(Reply, kw_only=True, frozen=True, tag="aborted"):
    pass


class Rejected(Reply, kw_only=True, frozen=True, tag="rejected"):
    """The library returned an error. After a fatal one the engine process must not be used any more."""

    reason: str
    fatal: bool


AnyCommand = Load | Transcribe | Abort
LastReply = Finished | Aborted | Rejected
"""Exactly one of these ends a call."""
AnyReply = Loaded | LoadFailed | SegmentFound | ProgressMade | Finished | Aborted | Rejected

_encoder = msgspec.msgpack.Encoder()
command_decoder = msgspec.msgpack.Decoder(AnyCommand)
reply_decoder = msgspec.msgpack.Decoder(AnyReply)


def frame(message: AnyCommand | AnyReply) -> bytes:
    """One message as it goes over the pipe."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def body_length(header: bytes) -> int:
    """The length that a frame's first four bytes announce. Raises ValueError where it cannot be one of ours."""
    (length,) = LENGTH.unpack(header)
    if not 0 < length <= MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {length} bytes is none of ours")
    return int(length)
