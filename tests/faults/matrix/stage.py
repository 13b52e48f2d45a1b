"""What the real processes of a cell have in common, whoever starts them (server_stage.py, up_stage.py)."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import psutil

from tests.faults.matrix.cells import Cell, Part, Phase
from tests.support.decoders import SLOW

ROOT = Path(__file__).parents[3]
GATED_ENGINE = Path(__file__).with_name("gated_engine.py")
FFMPEG_RATE = 2
"""The real ffmpeg reads its input at twice the speed of playing, so that there is time to meet it."""
END_SECS = 20


class Stage(Protocol):
    """What a cell is played on."""

    died: list[str]
    """What ended by itself, or with a bad exit status."""
    left_behind: list[str]
    """Processes that outlived the one that had started them and was killed."""
    nats_urls: list[str]
    folder: Path

    def url(self) -> str:
        """Where clients go now: as a load balancer would send them."""

    def workers(self) -> list[psutil.Process]: ...

    def victims(self, part: Part) -> list[psutil.Process]:
        """The processes that the fault hits; the first is the one that gets signals which end it."""

    def is_asked_to_end(self, pid: int) -> None:
        """From here on clients are sent to the others, and its end is no surprise."""

    def has_ended(self, cell: Cell) -> None:
        """Wait for the end of what was asked to end. Raises subprocess.TimeoutExpired."""

    def started_again(self, cell: Cell) -> None:
        """What ended is started again, where nothing of the product itself does that."""

    def close(self) -> None:
        """Stop everything in order; what lives on is for the caller to find."""

    def logs(self) -> str: ...


def environment(cell: Cell, folder: Path) -> dict[str, str]:
    """What workers and gateways are started with, in every kind of stage."""
    gate = folder / "gate"
    gate.mkdir(exist_ok=True)
    env = {
        "JOB_ACK_WAIT_SECS": str(cell.ack_wait_secs),
        "STRETCH_SECS": "30",
        "JOBS_WHEN_UNLOADED": "queue",
        "WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
        "WEBHOOK_BACKOFF": "3,3,3,3,3,3",
        "SPOOL_DIR": str(folder / "spool"),
        "ENGINE_COMMAND": shlex.join([sys.executable, str(GATED_ENGINE), str(gate)]),
        "PYTHONPATH": str(ROOT),
        "NATS_REPLICAS": str(cell.servers),
        "LOG_LEVEL": "info",
    }
    if cell.phase is Phase.PREPARING:
        env["DECODER_COMMAND"] = SLOW
    return env


def children_named(processes: list[psutil.Process], word: str) -> Iterator[psutil.Process]:
    """Their descendants with this word in the command line, engines and decoders for example."""
    for process in processes:
        try:
            for child in process.children(recursive=True):
                if word in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                    yield child
        except psutil.NoSuchProcess:
            continue


WORDS = {Part.ENGINE: GATED_ENGINE.name, Part.DECODER: "slow_decoder"}
"""By which the children of a worker are known."""
