"""What the worker and the decoder process say to each other: one JSON order as an argument, one JSON report on stdout."""

from typing import Annotated

import msgspec

from schemas.limits import MAX_MESSAGE_CHARS, Label, Text


class RawFormat(msgspec.Struct, kw_only=True, frozen=True):
    """How samples without a header are to be read."""

    name: str
    """FFmpeg's name of the demuxer, such as `s16le`."""
    sample_rate: int
    channels: int


class Order(msgspec.Struct, kw_only=True, frozen=True):
    """What to decode, and what may be spent on it."""

    source: str
    """Path of the file. What its name ends with says what it is where its bytes do not."""
    folder: str
    """Folder for the files of samples: `0.pcm`, and with `split` one for each channel (gpu_worker/pcm.py)."""
    max_secs: float
    """A file with more than this is refused. With `split` all channels count together."""
    cpu_secs: int
    """CPU time after which the kernel ends the process."""
    track: int | None = None
    """Which audio track, counted from 1; None for the default one, or the first one with sound."""
    channel: int | None = None
    """The only channel that is wanted, counted from 1; None for all."""
    split: bool = False
    """Write each channel into a file of its own."""
    raw: RawFormat | None = None


class TrackFacts(msgspec.Struct, kw_only=True, frozen=True):
    """One audio track, as the container describes it."""

    number: int
    """Counted from 1 among the audio tracks."""
    codec: Label
    channels: int
    layout: Label
    """FFmpeg's name of the channel layout, such as `stereo`, or `16 channels` where nobody says which is where."""
    sample_rate: int
    start_secs: float
    """Where its first sample lies on the player's clock."""
    title: Label | None
    is_default: bool


class Problem(msgspec.Struct, kw_only=True, frozen=True, tag_field="kind", tag="problem"):
    """Nothing can be decoded. `code` is one of schemas.errors.ErrorCode."""

    code: str
    message: Annotated[str, msgspec.Meta(max_length=MAX_MESSAGE_CHARS)]


class Trouble(msgspec.Struct, kw_only=True, frozen=True, tag_field="kind", tag="trouble"):
    """This machine could not decode: no room on the disk, for example."""

    message: Text


class Report(msgspec.Struct, kw_only=True, frozen=True, tag_field="kind", tag="report"):
    """What was found and written. All times are in seconds on the clock that a player shows."""

    container: Label
    """FFmpeg's short name of the container, such as `wav`."""
    tracks: list[TrackFacts]
    track: int
    """The number of the track that was decoded."""
    files: list[str]
    """One file of samples, or with `split` one for each channel, in their order. All have the same length."""
    samples: int
    """Length of each file."""
    declared_secs: float | None
    """How long the container says that it is; None where it does not say so, or where it is only a guess from the bit rate."""
    track_declared_secs: float | None
    """Where the container says that this track ends; None where it does not say so. A picture may be longer than its sound."""
    reached_secs: float
    """How far the file goes, pictures included."""
    decoded_samples: int
    """Samples of one channel that the codec gave, at its own rate."""
    decoder_errors: int
    """Packets that could not be decoded or were damaged, without the last one."""
    ends_inside: bool
    """Whether the file ends in the middle of something: it was cut off."""
    silent_tracks: list[int]
    """Tracks without any sound that were tried before this one."""
    level_db: float | None
    """Level of the loud parts before it was raised, in dB of full scale; None where there is no sound."""
    gain_db: float
    """The most that any part was raised."""
    channels_differ: bool
    channels_same: bool


Reply = Report | Problem | Trouble
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)
_orders = msgspec.json.Decoder(Order)


def order_for(order: Order) -> str:
    """Return an order as it goes to the decoder. It has paths, and nothing that others must not read in a list of processes."""
    return msgspec.json.encode(order).decode()


def read_order(text: bytes) -> Order:
    """Return the order. Raises msgspec.DecodeError."""
    return _orders.decode(text)


def read_reply(text: bytes) -> Reply:
    """Return the decoder's answer. Raises msgspec.DecodeError."""
    return _replies.decode(text)
