"""Model files by name: the shipped demo is unpacked; others are downloaded, resumed, checked, and put in place in one step."""

import hashlib
import lzma
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx

from gpu_worker.engine.library import DEFAULT_LIBRARY, BadModelFile, find_library

DEMO = "demo"
DEMO_FILE = Path(__file__).parent / "ggml-demo.bin.xz"
TIMEOUT = httpx.Timeout(30.0)
ATTEMPTS = 5
"""How often a broken download is resumed before it is given up."""
SHA1 = {
    "tiny": "bd577a113a864445d4c299885e0cb97d4ba92b5f",
    "tiny.en": "c78c86eb1a8faa21b369bcd33207cc90d64ae9df",
    "base": "465707469ff3a37a2b9b8d8f89f2f99de7299dac",
    "base.en": "137c40403d78fd54d454da0f9bd998f78703390c",
    "small": "55356645c2b361a969dfd0ef2c5a50d530afd8d5",
    "small.en": "db8a495a91d927739e50b3fc1cc4c6b8f6c2d022",
    "medium": "fd9727b6e1217c2f614f9b698455c4ffd82463b4",
    "medium.en": "8c30f0e44ce9560643ebd10bbe50cd20eafd3723",
    "large-v1": "b1caaf735c4cc1429223d5a74f0f4d0b9b59a299",
    "large-v2": "0f4c8e34f21cf1a914c59d8b3ce882345ad349d6",
    "large-v2-q5_0": "00e39f2196344e901b3a2bd5814807a769bd1630",
    "large-v3": "ad82bf6a9043ceed055076d0fd39f5f186ff8062",
    "large-v3-q5_0": "e6e2ed78495d403bef4b7cff42ef4aaadcfea8de",
    "large-v3-turbo": "4af2b29d7ec73d781377bfd1758ca957a807e941",
    "large-v3-turbo-q5_0": "e050f7970618a659205450ad97eb95a18d69c9ee",
}
"""SHA-1 as whisper.cpp publishes them in models/README.md. A model that is not here is checked by its structure alone."""

Report = Callable[[int, int | None], None]
"""Called with the bytes so far, and all of them (None where the server does not say)."""


class ModelError(Exception):
    """There is no usable model file; the sentence says why, and what to do."""


def path_of(name: str, folder: Path) -> Path:
    """Return where the file of a named model is."""
    return folder / f"ggml-{name}.bin"


def missing_sentence(name: str, path: Path) -> str:
    """Return the sentence for a model that is not there and was not asked for by name."""
    return (
        f"There is no model at {path}: run `make run MODEL={name}` to download it, "
        f"or `make run MODEL={DEMO}` to use the small one that comes with this repository (spoken digits only)."
    )


def fetch(name: str, folder: Path, base_url: str, report: Report) -> Path:
    """Return the file of a model, which is unpacked or downloaded where it is missing. Raises ModelError."""
    target = path_of(name, folder)
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        if name == DEMO:
            _unpack(DEMO_FILE, part)
        else:
            _download(f"{base_url}/ggml-{name}.bin", part, report)
        _accept(name, part, target)
    return target


def _unpack(source: Path, part: Path) -> None:
    with lzma.open(source) as packed, part.open("wb") as file:
        shutil.copyfileobj(packed, file)


def _download(url: str, part: Path, report: Report) -> None:
    with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _resume(client, url, part, report)
            except httpx.HTTPStatusError as error:
                code = error.response.status_code
                raise ModelError(f"{url} answered {code}: is the model's name right?") from error
            except httpx.HTTPError as error:
                if attempt == ATTEMPTS:
                    detail = f"{type(error).__name__} {error}".strip()
                    raise ModelError(
                        f"{url} could not be downloaded ({detail}); run it again to go on."
                    ) from error
            else:
                return


def _resume(client: httpx.Client, url: str, part: Path, report: Report) -> None:
    """Download the rest of the part file, or all of it where the server cannot send a part."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            # The part is the whole file, which the check that follows confirms.
            return
        response.raise_for_status()
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as file:
            # Blocks are written as they come, because collected ones would be lost with the connection.
            for block in response.iter_bytes():
                file.write(block)
                have += len(block)
                report(have, total)
    if total is not None and have != total:
        raise httpx.ReadError(f"{have} of {total} bytes")


def _accept(name: str, part: Path, target: Path) -> None:
    """Check the whole file, and then put it in place in one step. A bad file is removed. Raises ModelError."""
    try:
        if name in SHA1 and _sha1(part) != SHA1[name]:
            raise ModelError(
                f"The downloaded {part.name} does not match its published hash; it is removed, try again."
            )
        find_library(DEFAULT_LIBRARY).required_vram(part, beam_size=1)
    except (ModelError, BadModelFile) as error:
        part.unlink()
        raise ModelError(str(error)) from error
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)


def _sha1(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
