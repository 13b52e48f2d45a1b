"""Speech probabilities by Silero VAD with onnxruntime on one CPU thread: 6.4 s for an hour of audio (docs/adr/0006).

The model is the data file of the silero-vad package; that package's own code is not imported, because it wants torch.
"""

import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from gpu_worker.audio.stretches import WINDOW
from gpu_worker.blame import MachineTrouble

CONTEXT = 64
"""Samples of the window before that the model sees again."""
STATE = (1, 1, 128)
BATCH = 512
"""Windows per run: 16 s of audio. Larger batches are not faster."""


class MissingModel(MachineTrouble):
    """The voice model is not there; the sentence says so."""


def model_path() -> Path:
    """Raises MissingModel."""
    package = importlib.util.find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise MissingModel("The package silero-vad, which carries the voice model, is not installed.")
    path = Path(package.submodule_search_locations[0]) / "data" / "silero_vad_16k_sequence.onnx"
    if not path.is_file():
        raise MissingModel(f"There is no voice model at {path}.")
    return path


@cache
def _session() -> onnxruntime.InferenceSession:
    """Raises MachineTrouble: the model is part of this installation, and the same for every file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own have no common base
        raise MachineTrouble(f"The voice model cannot be loaded: {error}") from error


def blocks(pcm: BinaryIO) -> Iterator[NDArray[np.float32]]:
    """Whole windows of finite samples, BATCH at a time; the last is filled with zeros.

    Read, not mapped: pages of a mapped file count as memory of this process until the kernel wants them back.
    """
    while (block := np.fromfile(pcm, np.float32, BATCH * WINDOW)).size:
        block = np.nan_to_num(block, copy=False, nan=0, posinf=0, neginf=0)
        yield np.pad(block, (0, -block.size % WINDOW))


def speech_probabilities(pcm: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """One probability per WINDOW samples of the `blocks` of a file of 16 kHz mono float32. Blocking."""
    session = _session()
    state = [np.zeros(STATE, np.float32), np.zeros(STATE, np.float32)]
    context, found = np.zeros(CONTEXT, np.float32), []
    for block in pcm:
        joined = np.concatenate([context, block])
        windows = np.lib.stride_tricks.sliding_window_view(joined, WINDOW + CONTEXT)[::WINDOW]
        feed = {"input": np.ascontiguousarray(windows), "h": state[0], "c": state[1]}
        probabilities, *state = session.run(None, feed)
        found.append(probabilities)
        context = block[-CONTEXT:]
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def loudness(pcm: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Root mean square per WINDOW: where a cut hurts least when speech is not looked for. Blocking."""
    found = []
    for block in pcm:
        windows = block.reshape(-1, WINDOW)
        found.append(np.sqrt(np.mean(windows * windows, axis=1)))
    return np.concatenate(found).astype(np.float32) if found else np.zeros(0, np.float32)
