"""`python -m tests.mutants [-j N] [WORD ...]`: make each breakage in a copy of the tree, and run the test that must fail.

WORDs choose breakages whose file, text or test has one of them. Exits with 1 where a mutant lives, where a test does not pass on the
unbroken tree (then its failure would say nothing), or where it cannot be run.
"""

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.mutants.breakages import BREAKAGES, Breakage

ROOT = Path(__file__).parent.parent.parent
TEST_SECS = 60
"""A test that a mutant makes wait for ever has failed after so long; pytest ends it."""
PATIENCE_SECS = 180
"""And a test that pytest cannot end (hypothesis tries a failure again and again) has failed after so long."""
PASSED, FAILED = 0, 1
"""pytest's exit statuses; all others mean that it could not run the test."""


class Outcome(NamedTuple):
    breakage: Breakage
    word: str
    """`killed`, `ALIVE`, or what went wrong."""
    secs: float


def copy_tree(to: Path) -> Path:
    """What git knows or would add, and the environment by a link."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    (to / ".venv").symlink_to(ROOT / ".venv")
    return to


def run(tree: Path, tests: list[str], patience_secs: float | None, *options: str) -> tuple[int, str]:
    """pytest's exit status, and what it said."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-p",
        "no:cacheprovider",
        "-m",
        "slow or not slow",
        *options,
        *tests,
    ]
    # Bytecode is not kept: a breakage of the same second and length as the line before would not be seen.
    env = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        command, cwd=tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pytest:
        try:
            said, _ = pytest.communicate(timeout=patience_secs)
        except subprocess.TimeoutExpired:
            pytest.kill()
            return FAILED, "it took too long"
        return pytest.returncode, said


def outcome(breakage: Breakage, tree: Path) -> Outcome:
    begun, path = time.monotonic(), tree / breakage.file
    whole = path.read_text()
    if whole.count(breakage.old) != 1:
        return Outcome(breakage, f"its text is there {whole.count(breakage.old)} times", 0)
    path.write_text(whole.replace(breakage.old, breakage.new))
    try:
        status, said = run(tree, [breakage.test], PATIENCE_SECS, f"--timeout={TEST_SECS}")
    finally:
        path.write_text(whole)
    if status not in (PASSED, FAILED):
        sys.stderr.write(said)
    word = {PASSED: "ALIVE", FAILED: "killed"}.get(status, f"pytest could not run it: {status}")
    return Outcome(breakage, word, time.monotonic() - begun)


def told(found: Outcome) -> str:
    old = " ".join(found.breakage.old.split())
    test = found.breakage.test.rsplit("/", 1)[-1]
    return f"{found.word:8} {found.secs:6.1f} s  {found.breakage.file:32} {old[:60]:60}  {test}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("-j", type=int, default=2, help="how many at once")
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    chosen = [
        b for b in BREAKAGES if not given.words or any(w in f"{b.file} {b.old} {b.test}" for w in given.words)
    ]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees: queue.Queue[Path] = queue.Queue()
        for number in range(given.j):
            trees.put(copy_tree(Path(folder) / str(number)))
        status, said = run(
            Path(folder) / "0", sorted({b.test for b in chosen}), None, f"--numprocesses={given.j}"
        )
        if status != PASSED:
            sys.stdout.write(f"{said}\nThe tests must pass before anything is broken.\n")
            return 1

        def one(breakage: Breakage) -> Outcome:
            tree = trees.get()
            try:
                found = outcome(breakage, tree)
            finally:
                trees.put(tree)
            print(told(found), flush=True)
            return found

        with ThreadPoolExecutor(given.j) as pool:
            outcomes = list(pool.map(one, chosen))
    killed = sum(found.word == "killed" for found in outcomes)
    print(f"{killed} of {len(outcomes)} killed in {time.monotonic() - begun:.0f} s")
    return 0 if killed == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
