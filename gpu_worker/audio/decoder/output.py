"""What becomes of decoded blocks: mixed or taken apart, resampled and written.

This is one thread with the decoder. A second thread or process made an hour of MP3 take longer (docs/adr/0023).
"""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from gpu_worker.audio.decoder.container import Undecodable, channel_names
from gpu_worker.audio.decoder.mixing import Mixer
from gpu_worker.audio.decoder.pcm_file import PcmFile
from gpu_worker.audio.decoder.protocol import Order
from schemas.errors import ErrorCode

Samples = NDArray[np.float32]


class Finished(msgspec.Struct, kw_only=True, frozen=True):
    """What was written, and what it was like. See Report."""

    paths: list[str]
    level_db: float | None
    gain_db: float
    differ: bool
    same: bool


class Output:
    """The files of one track. They are begun with the first block, because only that says how many channels there are."""

    def __init__(self, order: Order) -> None:
        self._folder = Path(order.folder)
        self._split, self._channel = order.split, order.channel
        self._mixer: Mixer | None = None
        self._files: list[PcmFile] = []

    def begin(self, channels: int) -> None:
        """Make the files, once. Raises Undecodable where the wanted channel is not there, OSError."""
        if self._files:
            return
        if self._channel is not None and self._channel > channels:
            message = f"The track has no channel {self._channel}: it has {channels}."
            raise Undecodable(ErrorCode.CHANNEL_MISSING, message)
        count = channels if self._split else 1
        self._files = [PcmFile(self._folder / f"{number}.pcm") for number in range(count)]

    def sound(self, block: Samples, rate: int, layout: str) -> None:
        """Append a block of shape (channels, samples). Raises OSError."""
        channels = len(block)
        if self._channel is not None:
            self._files[0].sound(block[min(self._channel, channels) - 1], rate)
            return
        if self._mixer is None or self._mixer.channels != channels:
            self._mixer = Mixer(channel_names(layout, channels))
        mixed = self._mixer.mix(block)
        if not self._split:
            self._files[0].sound(mixed, rate)
            return
        for number, file in enumerate(self._files):
            # The number of channels may change in the middle of a recording.
            file.sound(block[min(number, channels - 1)], rate)

    def silence(self, secs: float) -> None:
        """Append silence."""
        for file in self._files:
            file.silence(secs)

    def finish(self, samples: int) -> Finished:
        """Bring each file to this length and to a normal level. Raises OSError."""
        measured = [file.finish(samples) for file in self._files]
        mixer = self._mixer
        return Finished(
            paths=[str(file.path) for file in self._files],
            level_db=max((level for level, _ in measured if level is not None), default=None),
            gain_db=max(gain for _, gain in measured),
            differ=mixer is not None and mixer.differ,
            same=mixer is not None and mixer.same,
        )
