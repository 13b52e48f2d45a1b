"""One file of samples (gpu_worker/pcm.py) as it is written: resampled, and at the end without rumble and of a normal level."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

from gpu_worker.audio.decoder import level
from gpu_worker.audio.decoder.frames import rows_of
from gpu_worker.pcm import SAMPLE_BYTES, SAMPLE_RATE

Samples = NDArray[np.float32]

HIGH_PASS = "highpass", f"f={level.RUMBLE_HZ}:p=2"
BLOCK_WINDOWS = 4096
"""Windows that are changed at once: 8 MB."""


class PcmFile:
    """A file that grows. Silence is a hole in it, which takes no room on the disk."""

    def __init__(self, path: Path) -> None:
        """Creates the file. Raises OSError."""
        self.path = path
        self._file = path.open("w+b", buffering=0)
        self._graph: Graph | None = None
        self._rate = 0
        self._samples = 0
        self._loudness = level.Loudness()

    def sound(self, block: Samples, rate: int) -> None:
        """Append a block of `rate` samples per second. Raises OSError."""
        if rate != self._rate:
            self._drain()
            self._graph, self._rate = _graph(rate, ("aresample", str(SAMPLE_RATE))), rate
        self._write(_through(self._graph, block, rate))

    def silence(self, secs: float) -> None:
        """Append silence."""
        self._drain()
        self._samples += round(secs * SAMPLE_RATE)

    def finish(self, samples: int) -> tuple[float | None, float]:
        """Cut the file to this length, or fill it up with silence, take rumble out, and bring it to a normal level.

        Returns the level that its loud parts had, and the most that any part was raised, both in dB. Raises OSError.
        """
        self._drain()
        self._file.truncate(samples * SAMPLE_BYTES)
        levels = self._loudness.levels(samples)
        if self._loudness.rumbles:
            graph, self._loudness = _graph(SAMPLE_RATE, HIGH_PASS, HIGH_PASS, HIGH_PASS), level.Loudness()
            for begin, block in self._blocks(levels):
                for filtered in _through(graph, block, SAMPLE_RATE):
                    self._loudness.add(begin, filtered)
                    self._put(begin, filtered)
            levels = self._loudness.levels(samples)
        gains = level.gains(levels)
        if gains.any():
            factors = np.power(10, gains / 20, dtype=np.float32)
            for begin, block in self._blocks(levels):
                here = factors[begin // level.WINDOW :][:BLOCK_WINDOWS]
                raised = block * np.repeat(here, level.WINDOW)[: block.size]
                # A click beside a quiet voice must not become so loud that the engine hears nothing else.
                self._put(begin, np.clip(raised, -1, 1))
        self._file.close()
        return level.loud(levels), float(gains.max(initial=0.0))

    def _drain(self) -> None:
        """Write what the resampler still has."""
        if self._graph is not None:
            self._write(_through(self._graph, None, self._rate))
        self._graph, self._rate = None, 0

    def _write(self, blocks: Iterator[Samples]) -> None:
        for block in blocks:
            if not np.isfinite(block @ block):
                block = np.nan_to_num(block, posinf=0, neginf=0)
            self._loudness.add(self._samples, block)
            self._put(self._samples, block)
            self._samples += block.size

    def _put(self, at: int, samples: Samples) -> None:
        self._file.seek(at * SAMPLE_BYTES)
        self._file.write(samples.data)

    def _blocks(self, levels: Samples) -> Iterator[tuple[int, Samples]]:
        """Yield what was written, block by block, each with the sample where it begins. Holes are left out."""
        for window in range(0, levels.size, BLOCK_WINDOWS):
            if (levels[window : window + BLOCK_WINDOWS] > level.NOTHING_DB).any():
                begin = window * level.WINDOW
                self._file.seek(begin * SAMPLE_BYTES)
                yield begin, np.fromfile(self._file, np.float32, BLOCK_WINDOWS * level.WINDOW)


def _graph(rate: int, *steps: tuple[str, str]) -> Graph:
    graph = Graph()
    graph.link_nodes(
        graph.add_abuffer(format="flt", sample_rate=rate, layout="mono", time_base=None),
        *(graph.add(*step) for step in steps),
        graph.add("aformat", "sample_fmts=flt"),
        graph.add("abuffersink"),
    ).configure()
    return graph


def _through(graph: Graph | None, block: Samples | None, rate: int) -> Iterator[Samples]:
    """Push a block through a graph, and yield what comes out. Without a block, the graph gives its last samples."""
    if graph is None:
        return
    if block is None:
        graph.push(None)
    else:
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = rate
        graph.push(frame)
    while True:
        try:
            [row] = rows_of(graph.pull())
        except (av.BlockingIOError, av.EOFError):
            return
        yield row
