"""`make faults [ONLY="KILL worker"]`: play the cells, two at a time, and write the evidence.

Exit status 0 where every cell passed. With ONLY the table goes to the terminal and the evidence stays as it is.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil

from standalone import known_models, models
from tests.faults.matrix.cells import Cell, selected
from tests.faults.matrix.checking import Facts, was_missed
from tests.faults.matrix.report import Result, Run, markdown

ROOT = Path(__file__).parents[3]
EVIDENCE = ROOT / "docs" / "evidence" / "faults.md"
TRIES = 3
"""Of a cell whose signal came too late for its phase."""
CELL_SECS = 420
LOG_BYTES = 4000


def play(cell: Cell, folder: Path, model: Path) -> Result:
    """In a process of its own, so that what it leaves behind can be found."""
    begun = time.monotonic()
    for number in range(1, TRIES + 1):
        place = folder / f"{cell.name.replace(' ', '-').replace('+', '-')}-{number}"
        place.mkdir(parents=True)
        facts = _play_once(cell, place, model)
        if not was_missed(cell, facts):
            break
    result = Result(cell, facts, time.monotonic() - begun, number)
    print(_line(result), flush=True)
    return result


def _play_once(cell: Cell, place: Path, model: Path) -> Facts:
    command = [sys.executable, "-m", "tests.faults.matrix.one", cell.name, str(place), str(model)]
    log = place / "trial.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=sink, stderr=sink
        )
    try:
        status = process.wait(CELL_SECS)
    except subprocess.TimeoutExpired:
        _end_tree(process.pid)
        status = process.wait()
    if (written := place / "facts.json").exists():
        return msgspec.json.decode(written.read_bytes(), type=Facts)
    last_words = log.read_text(errors="replace")[-LOG_BYTES:].strip().rsplit("\n", 1)[-1]
    return Facts(signal_at=0, trouble=[f"the trial ended with status {status}: {last_words}"])


def _end_tree(pid: int) -> None:
    """A trial that hangs, and all that it has started."""
    top = psutil.Process(pid)
    for process in [*top.children(recursive=True), top]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _line(result: Result) -> str:
    word = "ok    " if result.verdict.passed else "FAILED"
    text = f"{word} {result.cell.name} ({result.took_secs:.0f} s)"
    return "\n       ".join([text, *(" ".join(p.split())[:300] for p in result.verdict.problems)])


def play_all(cells: Sequence[Cell], folder: Path, at_once: int) -> list[Result]:
    """Those on one server side by side; a cluster has the machine for itself."""
    model = models.fetch(known_models.DEMO, folder / "model", "", lambda _done, _total: None)
    alone = [cell for cell in cells if cell.servers > 1]
    with ThreadPoolExecutor(at_once) as pool:
        results = [*pool.map(lambda cell: play(cell, folder, model), [c for c in cells if c not in alone])]
    return results + [play(cell, folder, model) for cell in alone]


def machine() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = names[0].split(":", 1)[1].strip() if names else "CPU"
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores ({cpu}), {memory:.0f} GiB"


def commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout

    changed = git("status", "--porcelain", "--untracked-files=no").strip()
    return git("rev-parse", "--short", "HEAD").strip() + (" with changes" if changed else "")


def main() -> int:
    top = argparse.ArgumentParser(prog="make faults", description=__doc__)
    top.add_argument("--only", default="", help="words that the cell's name must have")
    top.add_argument("--at-once", type=int, default=2)
    top.add_argument("--keep", type=Path, help="keep logs and facts here")
    arguments = top.parse_args()
    cells, begun = selected(arguments.only), time.monotonic()
    if not cells:
        top.error(f"no cell has all of these words: {arguments.only}")
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        folder = arguments.keep or Path(scratch)
        results = play_all(cells, folder, arguments.at_once)
    run = Run(
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        machine=machine(),
        commit=commit(),
        command="make faults" + (f" ONLY={shlex.quote(arguments.only)}" if arguments.only else ""),
        took_secs=time.monotonic() - begun,
    )
    text = markdown(results, run)
    if arguments.only:
        print(text)
    else:
        EVIDENCE.write_text(text)
    failed = sum(not result.verdict.passed for result in results)
    print(f"{len(results) - failed} of {len(results)} cells passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
