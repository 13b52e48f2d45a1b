"""Which model a command uses, and its file: found, or fetched where it was asked for by name."""

import os
from pathlib import Path

from gpu_worker.model_names import is_file
from schemas.settings import from_environment
from standalone import models
from standalone.known_models import DEMO, advice
from standalone.models import ModelError
from standalone.settings import StandaloneSettings
from standalone.terminal import Download


def settings_for(model: str | None) -> StandaloneSettings:
    """Return the settings of the environment, with the model of the command line: a name or a file. Raises SettingsError."""
    environment = dict(os.environ)
    if model:
        environment |= {"WHISPER_MODEL": model, "WHISPER_MODEL_PATH": ""}
    return from_environment(StandaloneSettings, environment)


def find_model(settings: StandaloneSettings, named: bool) -> Path:
    """Return the model file, whose structure is checked: blocking, up to half a second, or as long as a download takes.

    A missing one is downloaded only where it is `named` on the command line. Raises ModelError, SettingsError.
    """
    path, name = settings.model_file(), settings.model_name()
    if not _is_utf8(path):
        raise ModelError(f"The name of the model file {path} is not UTF-8: rename the file.")
    by_file = bool(settings.whisper_model_path) or is_file(settings.whisper_model)
    if not path.exists():
        if by_file:
            raise ModelError(f"There is no model file at {path}: {advice(name)}.")
        if not named:
            raise ModelError(_missing(name, path))
        with Download(name) as download:
            models.fetch(name, path.parent, settings.model_base_url, download.report)
    try:
        models.check(path, settings.engine)
    except ModelError as error:
        what = advice(name) if by_file else "remove the file, and fetch it again"
        raise ModelError(f"{str(error).removesuffix('.')}; {what}.") from error
    return path.absolute()


def fetch_by_name(name: str | None) -> Path:
    """Return the file of a named model, which is fetched where it is missing. Raises ModelError, SettingsError."""
    if name is None:
        raise ModelError("Say which model to fetch: `whisper-jetstream model list` has the known names.")
    if is_file(name):
        raise ModelError(f"Only a model's name can be fetched, and {name} is a file: {advice(name)}.")
    return find_model(settings_for(name), named=True)


def _is_utf8(path: Path) -> bool:
    """Return whether the path can be published in the status."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _missing(name: str, path: Path) -> str:
    """Return the sentence for a model that is not there and was not asked for on the command line."""
    return (
        f"There is no model at {path}: run `make run MODEL={name}` to download it, "
        f"or `make run MODEL={DEMO}` to use the small one that comes with this repository (spoken digits only)."
    )
