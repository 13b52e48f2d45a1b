"""Names of models and of their files. Nothing is looked for on disk.

A model is chosen by its name (`large-v3`), whose file is `ggml-large-v3.bin`, or by a file. The rule is one for the command line,
for `make run` and for the setting WHISPER_MODEL, and does not depend on what is on disk.
"""

import os.path
from pathlib import Path

PREFIX, SUFFIX = "ggml-", ".bin"
"""What whisper.cpp puts before and behind a model's name to make the name of its file."""


def is_file(model: str) -> bool:
    """Return whether `model` is meant as a file: it has a `/`, or ends with `.bin`."""
    return "/" in model or model.endswith(SUFFIX)


def file_of(model: str, folder: Path) -> Path:
    """Return the file of a model: the file that it is itself, or else that of its name in `folder`. `~` is the home folder."""
    return Path(os.path.expanduser(model)) if is_file(model) else folder / f"{PREFIX}{model}{SUFFIX}"


def name_of(path: Path) -> str:
    """Return the name by which a file is shown: NAME for `ggml-NAME.bin`, and the file's own name for any other."""
    name = path.name.removeprefix(PREFIX).removesuffix(SUFFIX)
    return name if name and path.name == f"{PREFIX}{name}{SUFFIX}" else path.name
