"""The start of a service: settings from the environment, logging, and its work until a signal."""

import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from process.exit_status import CANNOT_START
from process.logs import set_up_logging
from process.signals import run_until_signal
from schemas.settings import SettingsError, from_environment


class ServiceSettings(msgspec.Struct, kw_only=True, frozen=True):
    """Base of the settings of a service."""

    log_level: str = "info"


S = TypeVar("S", bound=ServiceSettings)


def run_service(
    program: str, kind: type[S], work: Callable[[S], Coroutine[Any, Any, None]], expected: type[Exception]
) -> int:
    """Run the service `program` until a signal, and return the exit status of the process.

    `kind` is the struct of its settings. Errors of the kind `expected` are logged in one line.
    """
    try:
        settings = from_environment(kind, os.environ)
    except SettingsError as error:
        return cannot_start(program, error)
    set_up_logging(settings.log_level)
    return run_until_signal(work(settings), expected)


def cannot_start(program: str, error: Exception) -> int:
    """Say on stderr why a program cannot start, and return its exit status."""
    sys.stderr.write(f"{program}: {error}\n")
    return CANNOT_START
