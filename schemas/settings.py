"""Environment variables to a typed settings struct, read once at start. Pure: the mapping is given."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


class SettingsError(Exception):
    """One sentence that names the variable and what is wrong with it."""


def from_environment(kind: type[T], environment: Mapping[str, str]) -> T:
    """Return `kind` filled from variables that are named as its fields in capitals. Unset and empty ones keep the defaults.

    Raises SettingsError.
    """
    names = {field.upper(): field for field in kind.__struct_fields__}
    given = {field: environment[name] for name, field in names.items() if environment.get(name)}
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        # A message without a path comes from a struct's own check, which names the variable itself.
        raise SettingsError(f"{path.rstrip('`').upper()}: {message}." if path else f"{message}.") from error
