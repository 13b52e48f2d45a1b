"""Play one cell and write its facts: `python -m tests.faults.matrix.one CELL FOLDER MODEL`. A process of its own for each."""

import ctypes
import os
import sys
import time
from pathlib import Path

import msgspec
import psutil

from tests.faults.matrix.cells import CELLS, Cell, Part
from tests.faults.matrix.checking import Facts
from tests.faults.matrix.server_stage import ServerStage
from tests.faults.matrix.stage import Stage
from tests.faults.matrix.trial import MISHAPS, Trial
from tests.faults.matrix.up_stage import UpStage

PR_SET_CHILD_SUBREAPER = 36
TIDY_SECS = 5
OURS = ("WHISPER_", "NATS_", "JOB_", "MODEL_", "GATEWAY_")


def adopt_orphans() -> None:
    """Whatever a process of ours leaves behind becomes a child of this one, so that it can be found. Linux."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def left_processes() -> list[psutil.Process]:
    return [
        child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE
    ]


def left_files(spool: Path) -> list[str]:
    """Audio at work; a lock is none."""
    return [
        str(path.relative_to(spool))
        for path in spool.rglob("*")
        if path.is_file() and "lock" not in path.name
    ]


def eventually_empty(what: str, spool: Path) -> list[str]:
    """What is still there after a moment: files go, and processes end, shortly after a job does."""
    deadline = time.monotonic() + TIDY_SECS
    while True:
        left = (
            left_files(spool) if what == "spool" else [" ".join(p.cmdline())[-70:] for p in left_processes()]
        )
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def play(cell: Cell, folder: Path, model: Path) -> Facts:
    stage: Stage = (UpStage if cell.part is Part.UP else ServerStage)(cell, folder, model)
    trial = Trial(cell, stage)
    facts = trial.run()
    facts.spool = eventually_empty("spool", folder / "spool")
    trial.close()
    try:
        stage.close()
    except MISHAPS as error:  # what hangs is found below, and told
        facts.trouble.append(f"at the stop: {type(error).__name__}: {error}")
    facts.died += stage.died
    facts.processes = stage.left_behind + eventually_empty("processes", folder)
    print(stage.logs())
    return facts


def main() -> None:
    name, folder, model = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    for variable in [v for v in os.environ if v.startswith(OURS)]:
        del os.environ[variable]  # what the developer has set must not change what is tried
    adopt_orphans()
    [cell] = [cell for cell in CELLS if cell.name == name]
    try:
        facts = play(cell, folder, model)
    finally:
        for process in left_processes():  # whatever has happened, nothing of a cell lives on
            process.kill()
    (folder / "facts.json").write_bytes(msgspec.json.format(msgspec.json.encode(facts)))


if __name__ == "__main__":
    main()
