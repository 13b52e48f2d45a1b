"""The models that are known by name: their published sizes and hashes. Pure."""

import difflib
import re

import msgspec

DEMO = "demo"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What a name may look like: it becomes a part of a file's name, and of an address."""


class KnownModel(msgspec.Struct, frozen=True):
    """One model as whisper.cpp's models/README.md lists it, or the demo of this repository."""

    size: str
    """The length of its file, as published: `2.9 GiB`."""
    sha1: str
    """SHA-1 of its file, in hexadecimal digits."""


KNOWN = {
    DEMO: KnownModel("10 MiB", "b405fb45394f27392109cd28ac6a8846ad7d6fd6"),
    "tiny": KnownModel("75 MiB", "bd577a113a864445d4c299885e0cb97d4ba92b5f"),
    "tiny.en": KnownModel("75 MiB", "c78c86eb1a8faa21b369bcd33207cc90d64ae9df"),
    "base": KnownModel("142 MiB", "465707469ff3a37a2b9b8d8f89f2f99de7299dac"),
    "base.en": KnownModel("142 MiB", "137c40403d78fd54d454da0f9bd998f78703390c"),
    "small": KnownModel("466 MiB", "55356645c2b361a969dfd0ef2c5a50d530afd8d5"),
    "small.en": KnownModel("466 MiB", "db8a495a91d927739e50b3fc1cc4c6b8f6c2d022"),
    "medium": KnownModel("1.5 GiB", "fd9727b6e1217c2f614f9b698455c4ffd82463b4"),
    "medium.en": KnownModel("1.5 GiB", "8c30f0e44ce9560643ebd10bbe50cd20eafd3723"),
    "large-v1": KnownModel("2.9 GiB", "b1caaf735c4cc1429223d5a74f0f4d0b9b59a299"),
    "large-v2": KnownModel("2.9 GiB", "0f4c8e34f21cf1a914c59d8b3ce882345ad349d6"),
    "large-v2-q5_0": KnownModel("1.1 GiB", "00e39f2196344e901b3a2bd5814807a769bd1630"),
    "large-v3": KnownModel("2.9 GiB", "ad82bf6a9043ceed055076d0fd39f5f186ff8062"),
    "large-v3-q5_0": KnownModel("1.1 GiB", "e6e2ed78495d403bef4b7cff42ef4aaadcfea8de"),
    "large-v3-turbo": KnownModel("1.5 GiB", "4af2b29d7ec73d781377bfd1758ca957a807e941"),
    "large-v3-turbo-q5_0": KnownModel("547 MiB", "e050f7970618a659205450ad97eb95a18d69c9ee"),
}
"""By name. A model that is not here can be fetched too, and is checked by its structure alone."""


def is_name(text: str) -> bool:
    """Return whether a text can be the name of a model, known or not."""
    return NAME.fullmatch(text) is not None


def advice(name: str) -> str:
    """Return the end of a sentence about a name under which nothing was found: the known name that is nearest, and where all are."""
    near = difflib.get_close_matches(name, KNOWN, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{meant}`whisper-jetstream model list` has the known names"
