"""What `model list` shows: the models that are known by name, and the model files in a folder, each checked."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import msgspec

from gpu_worker.model_names import SUFFIX, file_of, name_of
from standalone.known_models import KNOWN
from standalone.models import ModelError, check, part_of, sha1

MIB = 2**20
NAME_WIDTH, SIZE_WIDTH = 21, 9
"""Characters of the columns of a line."""


class FileState(StrEnum):
    """What is on disk of a model."""

    ABSENT = "absent"
    """Nothing."""
    PARTIAL = "partial"
    """A part of a download, which goes on with the next one."""
    VERIFIED = "verified"
    """The whole file, with its published hash."""
    WHOLE = "whole"
    """A whole model file by its structure. No hash of it is published."""
    UNUSABLE = "unusable"
    """A file that is no usable model, or not the one that its name says."""


class ListedModel(msgspec.Struct, kw_only=True, frozen=True):
    """One model. Lengths are bytes."""

    name: str
    """Its name, or the name of its file where that is not `ggml-NAME.bin`."""
    published_size: str | None
    """Length as published, like `2.9 GiB`; None for a model that is not known by name."""
    state: FileState
    path: str | None = None
    """Its file, or the part of it; None where there is neither."""
    size: int | None = None
    """Length of what is on disk; None where nothing is."""
    vram: int | None = None
    """VRAM that it needs at the least, without CUDA's own share; None where there is no usable file."""
    problem: str | None = None
    """Why a file is not usable, and what to do."""


def listed(folder: Path) -> Iterator[ListedModel]:
    """Yield the known models in the order of their table, then the other model files in `folder`.

    Each file is read when it is its turn, which takes seconds for the largest.
    """
    for name in KNOWN:
        yield _look(name, file_of(name, folder))
    known = {file_of(name, folder) for name in KNOWN}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path not in known:
            yield _look(name_of(path), path)


def line(model: ListedModel) -> str:
    """Return the line that people read."""
    size = f"{model.size / MIB:.0f} MiB" if model.size is not None else ""
    vram = f", at least {model.vram / MIB:.0f} MiB of VRAM" if model.vram is not None else ""
    match model.state:
        case FileState.ABSENT:
            found = "-"
        case FileState.PARTIAL:
            found = f"{size} downloaded: `whisper-jetstream model fetch {model.name}` goes on"
        case FileState.VERIFIED:
            found = f"on disk, hash right{vram}"
        case FileState.WHOLE:
            found = f"on disk, whole, no published hash{vram}"
        case FileState.UNUSABLE:
            found = f"not usable: {model.problem}"
    return f"{model.name:<{NAME_WIDTH}}{model.published_size or size:>{SIZE_WIDTH}}  {found}"


def _look(name: str, path: Path) -> ListedModel:
    known = KNOWN.get(name)
    published = known.size if known else None
    part = part_of(path)
    found = path if path.exists() else part if part.exists() else None
    if found is None:
        return ListedModel(name=name, published_size=published, state=FileState.ABSENT)
    state, vram, problem = FileState.PARTIAL, None, None
    if found is path:
        try:
            vram = check(path)
            state = FileState.WHOLE
            if known is not None:
                state = FileState.VERIFIED
                if sha1(path) != known.sha1:
                    raise ModelError(
                        f"{path} does not have the published hash of {name}: remove it, and fetch it again."
                    )
        except (ModelError, OSError) as error:
            state, vram, problem = FileState.UNUSABLE, None, str(error)
    return ListedModel(
        name=name,
        published_size=published,
        state=state,
        path=str(found),
        size=found.stat().st_size,
        vram=vram,
        problem=problem,
    )
