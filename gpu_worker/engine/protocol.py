"""What the worker and the engine process say to each other: msgpack frames over the engine's stdin and stdout.

The worker speaks first (Load), then any number of Transcribe; Abort may come at any time. Each Transcribe is answered
by SegmentFound and ProgressMade in any number and then by exactly one of Finished, Aborted and Rejected. The end of
stdin means: exit. A frame is a 4-byte little-endian length and that many bytes.
"""

import struct

import msgspec

from schemas.jobs import Task, Word

LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 16 * 1024 * 1024
SAMPLE_RATE = 16_000


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
    """Counts up; an Abort names the call that it means."""
    pcm_path: str
    """Mono float32 at 16 kHz, nothing else."""
    spans: list[tuple[int, int]]
    """(first sample, sample after the last) of each piece; they are joined in this order."""
    language: str
    task: Task
    words: bool
    prompt: str
    beam_size: int
    temperature: float


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
    """whisper.cpp gave an error code. `fatal` tells that the engine cannot be used any more."""

    reason: str
    fatal: bool


AnyCommand = Load | Transcribe | Abort
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
