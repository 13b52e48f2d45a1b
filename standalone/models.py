"""Model files: the shipped demo is unpacked; others are downloaded, resumed, checked, and put in place in one step."""

import hashlib
import lzma
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx

from gpu_worker.engine.library import DEFAULT_LIBRARY, BadModelFile, UnknownLibrary, find_library
from gpu_worker.model_names import file_of
from schemas.options import MAX_BEAM_SIZE
from schemas.settings import SettingsError
from standalone.known_models import DEMO, KNOWN, advice, is_name

DEMO_FILE = Path(__file__).parent / "ggml-demo.bin.xz"
TIMEOUT = httpx.Timeout(30.0)
ATTEMPTS = 5
"""How often a broken download is resumed before it is given up."""

Report = Callable[[int, int | None], None]
"""Called with the bytes so far, and all of them (None where the server does not say)."""


class ModelError(Exception):
    """There is no usable model file; the sentence says why, and what to do."""


def fetch(name: str, folder: Path, base_url: str, report: Report) -> Path:
    """Return the file of a model, which is unpacked or downloaded where it is missing. Raises ModelError."""
    if not is_name(name):
        raise ModelError(f"{name!r} is no name of a model: {advice(name)}.")
    target = file_of(name, folder)
    if target.exists():
        return target
    part = part_of(target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if name == DEMO:
            _unpack(DEMO_FILE, part)
        else:
            _download(f"{base_url.rstrip('/')}/{target.name}", part, report, advice(name))
        _accept(name, part, target)
    except OSError as error:
        raise ModelError(
            f"The model {name} cannot be stored in {folder}: {error.strerror or error}; "
            "make room or set MODELS_DIR, and run it again."
        ) from error
    return target


def part_of(target: Path) -> Path:
    """Return where a model's file is while it is downloaded. It stays there when the download breaks off."""
    return target.with_suffix(".part")


def check(path: Path, engine: str = DEFAULT_LIBRARY) -> int:
    """Check the structure of a model file of an engine; return the bytes of VRAM that it needs at the least, at the widest beam.

    Blocking, up to half a second. Raises ModelError; SettingsError where there is no such engine.
    """
    try:
        return find_library(engine).required_vram(path, MAX_BEAM_SIZE)
    except UnknownLibrary as error:
        raise SettingsError(f"ENGINE: {error}.") from error
    except BadModelFile as error:
        raise ModelError(str(error)) from error


def sha1(path: Path) -> str:
    """Return the SHA-1 of a file in hexadecimal digits. Blocking: a few seconds for the largest model. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()


def _unpack(source: Path, part: Path) -> None:
    with lzma.open(source) as packed, part.open("wb") as file:
        shutil.copyfileobj(packed, file)


def _download(url: str, part: Path, report: Report, hint: str) -> None:
    """Download a file into `part`. `hint` says what to do where the server has none of this name. Raises ModelError, OSError."""
    with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _resume(client, url, part, report)
            except httpx.HTTPStatusError as error:
                code = error.response.status_code
                what = (
                    hint if code == httpx.codes.NOT_FOUND else "try it later, or set another MODEL_BASE_URL"
                )
                raise ModelError(f"{url} answered {code}: {what}.") from error
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise ModelError(f"MODEL_BASE_URL makes no usable address, {url}: {error}.") from error
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
    """Check the whole file, and then put it in place in one step. A bad file is removed. Raises ModelError, OSError."""
    try:
        if name in KNOWN and sha1(part) != KNOWN[name].sha1:
            raise ModelError(
                f"The downloaded {part.name} does not match its published hash; it is removed; try again, "
                "or set another MODEL_BASE_URL."
            )
        check(part)
    except ModelError:
        part.unlink()
        raise
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)
