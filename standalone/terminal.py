"""What a person sees in the terminal: progress bars, live segments, the transcript."""

import signal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from schemas.events import TERMINAL_TYPES
from standalone.client import GatewayClient

screen = Console(stderr=True, highlight=False)
"""Progress goes to stderr and transcripts to stdout, so that a pipe gets the text alone."""


def printable(text: str) -> str:
    """Return a text of somebody else without characters that control a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds: 0:01:05.20."""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes // 60)}:{int(minutes % 60):02d}:{rest:05.2f}"


def transcribe(client: GatewayClient, path: Path, fields: dict[str, str]) -> dict[str, Any]:
    """Submit a file, show its progress, and return the job when it has ended. Raises ClientError."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen) as progress:
        bar = progress.add_task(f"{path.name}: upload", total=100)
        job_id = client.submit(path, fields)
        progress.update(bar, description=f"{path.name}: queued")
        job: dict[str, Any] = {}
        for event in client.follow(job_id):
            match event["type"]:
                case "started":
                    progress.update(bar, description=f"{path.name}: running")
                    for warning in event.get("warnings") or []:
                        text = printable(warning["message"])
                        progress.console.print(Text(f"{path.name}: {text}", "yellow"))
                case "progress":
                    progress.update(bar, completed=event["percent"])
                case "segment":
                    segment = event["segment"]
                    times = f"[{clock(segment['start'])} --> {clock(segment['end'])}] "
                    who = f"channel {segment['channel']}:" if segment.get("channel") else ""
                    progress.console.print(Text(times + who, "dim") + Text(segment["text"]))
                case kind if kind in TERMINAL_TYPES:
                    job = event["job"]
                    progress.update(bar, completed=100, description=f"{path.name}: {kind}")
                case _:
                    # An event that needs no display, or one of a later version.
                    pass
        return job


def text_of(job: dict[str, Any]) -> str:
    """Return the transcript of a job as one text."""
    return "".join(segment["text"] for segment in job["segments"]).strip()


LOG_STEPS = 20
"""How many lines a download writes where stderr is no terminal."""


AGAIN_SECS = 0.5
"""How soon a Ctrl-C that nobody has heard is repeated."""


class Download:
    """The progress bar of a download, as a context manager."""

    def __init__(self, name: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, console=screen)
        self._bar = self._progress.add_task(f"model {name}", total=None, visible=False)
        self._name, self._step = name, 0
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Download":
        self._handlers = {
            number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGALRM)
        }
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._progress.stop()

    def _interrupt(self, *_: object) -> None:
        """Raise KeyboardInterrupt until it is heard: where it is raised inside a destructor, Python ignores it."""
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECS)
        raise KeyboardInterrupt

    def report(self, done: int, total: int | None) -> None:
        """Show the bytes so far and in all; None where the total is not known."""
        self._progress.update(self._bar, completed=done, total=total, visible=True)
        if not screen.is_terminal and total:
            step = int(done / total * LOG_STEPS)
            if step > self._step:
                self._step = step
                screen.print(f"model {self._name}: {100 * done // total} % of {total / 2**20:.0f} MiB")


def show(job: dict[str, object]) -> int:
    """Print the transcript of a job, or why there is none, and return the exit status."""
    error = job.get("error")
    if isinstance(error, dict):
        screen.print(f"{error['code']}: {error['message']}", markup=False)
        return 1
    print(text_of(job))
    return 0 if job.get("status") == "done" else 1
