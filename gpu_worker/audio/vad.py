"""Speech probabilities by Silero VAD with onnxruntime on one CPU thread: 6.4 s for an hour of audio (docs/adr/0006).

The model is a file beside this module (silero_vad/README.md): the package that carries it declares torch (docs/adr/0021).
"""

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
"""Samples of the previous window that the model sees again."""
STATE = (1, 1, 128)
"""Shape of each of the model's two recurrent states."""
BATCH = 512
"""Windows per run of the model: 16 s of audio. Larger batches are not faster."""


class MissingModel(MachineTrouble):
    """The file of the voice model is missing."""


def model_path() -> Path:
    """Return the file of the voice model. Raises MissingModel."""
    path = Path(__file__).parent / "silero_vad" / "silero_vad_16k_sequence.onnx"
    if not path.is_file():
        raise MissingModel(f"There is no voice model at {path}.")
    return path


@cache
def _session() -> onnxruntime.InferenceSession:
    """Load the model once. Raises MachineTrouble, because the model is part of this installation and no file's fault."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # The exceptions of onnxruntime have no common base class.
        raise MachineTrouble(f"The voice model cannot be loaded: {error}") from error


def blocks(pcm: BinaryIO) -> Iterator[NDArray[np.float32]]:
    """Yield blocks of up to BATCH whole windows of finite samples. The last window is filled up with zeros.

    The file is read and not mapped, because pages of a mapped file count as memory of this process until the kernel reclaims
    them.
    """
    while (block := np.fromfile(pcm, np.float32, BATCH * WINDOW)).size:
        block = np.nan_to_num(block, copy=False, nan=0, posinf=0, neginf=0)
        yield np.pad(block, (0, -block.size % WINDOW))


def speech_probabilities(pcm: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return one probability of speech, 0 to 1, for each WINDOW samples of the `blocks` of a file. Blocking."""
    session = _session()
    state, context = _fresh()
    found = []
    for block in pcm:
        if not block.any():
            # A hole in the recording, which may last for hours. The model begins anew behind it.
            found.append(np.zeros(block.size // WINDOW, np.float32))
            state, context = _fresh()
            continue
        joined = np.concatenate([context, block])
        windows = np.lib.stride_tricks.sliding_window_view(joined, WINDOW + CONTEXT)[::WINDOW]
        feed = {"input": np.ascontiguousarray(windows), "h": state[0], "c": state[1]}
        probabilities, *state = session.run(None, feed)
        found.append(probabilities)
        context = block[-CONTEXT:]
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def _fresh() -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
    """Return the model's states and its context before the first sample."""
    return [np.zeros(STATE, np.float32), np.zeros(STATE, np.float32)], np.zeros(CONTEXT, np.float32)
