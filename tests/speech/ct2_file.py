"""Read a Whisper model of CTranslate2: its variables by name, in 32 bits."""

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
VERSION, SPEC = 6, "WhisperSpec"
TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16, np.uint16)
"""By CTranslate2's number of a type. Numpy has no bfloat16: it is read as whole numbers of 16 bits."""
BFLOAT16 = 5


class CT2File:
    """The whole file in memory."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError where it is no Whisper model in the version that is known here."""
        self._variables: dict[str, NDArray[Any]] = {}
        with path.open("rb") as file:
            (version,) = _unpack(file, "I")
            spec = _string(file) if version == VERSION else ""
            if spec != SPEC:
                raise ValueError(f"{path} is no {SPEC} in version {VERSION}")
            _revision, count = _unpack(file, "II")
            for _ in range(count):
                name, (rank,) = _string(file), _unpack(file, "B")
                shape, (kind, size) = _unpack(file, f"{rank}I"), _unpack(file, "BI")
                values = np.frombuffer(file.read(size), TYPES[kind]).reshape(shape)
                self._variables[name] = _from_bfloat16(values) if kind == BFLOAT16 else values

    def floats(self, name: str) -> Floats:
        """Return a variable. Whole numbers of 8 bits are divided by the scale of their row."""
        values: Floats = self._variables[name].astype(np.float32)
        scale = self._variables.get(f"{name}_scale")
        return values if scale is None else values / scale.reshape(-1, *[1] * (values.ndim - 1))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the extents of a variable."""
        return self._variables[name].shape

    def number(self, name: str) -> int:
        """Return a variable that is one number."""
        return int(self._variables[name].reshape(-1)[0])

    def layers(self, part: str) -> int:
        """Return how many layers the `encoder` or the `decoder` has."""
        head = f"{part}/layer_"
        found = (name.removeprefix(head).split("/")[0] for name in self._variables if name.startswith(head))
        return len({number for number in found if number.isdigit()})


def _from_bfloat16(values: NDArray[Any]) -> Floats:
    return (values.astype(np.uint32) << 16).view(np.float32)


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{layout}", file.read(struct.calcsize(f"<{layout}")))


def _string(file: BinaryIO) -> str:
    """A length, and that many bytes, the last of which is a NUL."""
    (length,) = _unpack(file, "H")
    return file.read(length)[:-1].decode()
