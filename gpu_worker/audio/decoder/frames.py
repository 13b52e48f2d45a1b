"""Frames of a codec, gathered to blocks of two seconds: whatever format the codec gives becomes float32, one row for each channel.

FFmpeg does this, because Python takes longer over a frame of 20 ms than its decoder does.
"""

from collections.abc import Iterator

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

Samples = NDArray[np.float32]

BLOCK_SECS = 2
MAX_BLOCK_VALUES = 8_000_000
"""Values of all channels in one block: 32 MB."""
PULL_EVERY = 32
"""Frames between two looks for whole blocks."""


MAX_PLANES = 7
"""PyAV 18 reads the planes of 8 and more channels (AV_NUM_DATA_POINTERS) from where there are none. Those come interleaved."""


class Frames:
    """Frames of one format, which follow each other without a hole."""

    def __init__(self, first: av.AudioFrame) -> None:
        """`first` has the format that all have; it is not added yet."""
        self.rate, self.channels = first.sample_rate, first.layout.nb_channels
        self.layout = first.layout.name
        self._format = first.format.name
        self._pushed = 0
        self._graph = Graph()
        self._graph.link_nodes(
            self._graph.add_abuffer(
                format=self._format, sample_rate=self.rate, layout=self.layout, time_base=first.time_base
            ),
            self._graph.add(
                "aformat", "sample_fmts=fltp" if self.channels <= MAX_PLANES else "sample_fmts=flt"
            ),
            self._graph.add("asetnsamples", f"n={block_samples(self.rate, self.channels)}:p=0"),
            self._graph.add("abuffersink"),
        ).configure()

    def takes(self, frame: av.AudioFrame) -> bool:
        """Whether a frame has the format of the others."""
        return (
            frame.sample_rate == self.rate
            and frame.layout.nb_channels == self.channels
            and frame.format.name == self._format
        )

    def add(self, frame: av.AudioFrame) -> bool:
        """Add a frame. Returns whether it is time to look for whole blocks."""
        self._graph.push(frame)
        self._pushed += 1
        return self._pushed % PULL_EVERY == 0

    def rest(self) -> Iterator[Samples]:
        """Yield what is left. Nothing can be added any more."""
        self._graph.push(None)
        yield from self.blocks()

    def blocks(self) -> Iterator[Samples]:
        """Yield the blocks that are whole, of shape (channels, samples)."""
        while True:
            try:
                block = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            rows = rows_of(block)
            yield (
                np.stack(rows)
                if len(rows) > 1
                else np.ascontiguousarray(rows[0].reshape(-1, self.channels).T)
            )


def block_samples(rate: int, channels: int) -> int:
    """Return the length of a block in samples of each channel."""
    return min(BLOCK_SECS * rate, MAX_BLOCK_VALUES // channels)


def rows_of(block: object) -> list[Samples]:
    """Return the planes of a frame of floats without a copy. They are valid as long as the frame is."""
    if not isinstance(block, av.AudioFrame):
        raise TypeError(f"{type(block).__name__} is no audio")
    count = block.samples if block.format.is_planar else block.samples * block.layout.nb_channels
    return [np.frombuffer(memoryview(plane), np.float32, count) for plane in block.planes]
