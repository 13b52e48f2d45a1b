"""The list of breakages, read from breakages.toml."""

from pathlib import Path

import msgspec


class Breakage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str
    old: str
    """Found exactly once in the file."""
    new: str
    test: str
    """Of pytest: `file::test`, with all its parameters."""


class _List(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    breakage: list[Breakage]


BREAKAGES = msgspec.toml.decode(Path(__file__).with_suffix(".toml").read_bytes(), type=_List).breakage
