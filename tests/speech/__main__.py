"""Measure real speech with Whisper's own weights: `python -m tests.speech FOLDER [--short]`, which is `make speech SPEECH_DIR=FOLDER`.

FOLDER has clips, a refs.json and a long.py. All of it goes through the product and through whisper-cli with base and tiny.en, which
takes three quarters of an hour, and docs/evidence/speech.md is written. `--short` measures five clips and one long recording with tiny.en, and only
prints. The exit status is 1 where the product does what it must not do, and 2 where something is missing.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.speech import clips, peer, weights
from tests.speech.measures import agreement
from tests.speech.measuring import Orders, measured
from tests.speech.packages import FOLDER, ROOT, Missing
from tests.speech.report import complaints, document
from tests.speech.values import Measured

FILE = ROOT / "docs" / "evidence" / "speech.md"
SEEDS = (1, 2, 3)


def orders(folder: Path, *, full: bool) -> Iterator[Orders]:
    """Yield what to measure, model by model. Raises Missing."""
    found = clips.clips(folder)
    if full:
        joined = [clip for seed in SEEDS for clip in clips.long(folder, seed, FOLDER)]
        for model in ("base", "tiny.en"):
            mine = [*clips.of_model(found, model), *joined]
            yield Orders(model=model, file=weights.model(model), clips=mine, full=True)
    else:
        joined = [clip for clip in clips.long(folder, SEEDS[0], FOLDER) if clip.path.name == clips.PAUSES]
        mine = [*clips.short(found), *joined]
        yield Orders(model="tiny.en", file=weights.model("tiny.en"), clips=mine, full=False)


def measure(folder: Path, *, full: bool) -> list[Measured]:
    """Fetch, convert and build what is missing, and measure. Raises Missing."""
    found = list[Measured]()
    wanted, program = list(orders(folder, full=full)), peer.build()
    for order in wanted:
        with tempfile.TemporaryDirectory() as temporary:
            for item in measured(order, program, Path(temporary)):
                found.append(item)
                said, runs = item.runs[0].text[:80], agreement(item.runs)
                print(f"{order.model}: {item.clip.name}: {runs}: {said}", flush=True)
    return found


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.speech")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        found = measure(given.folder.resolve(), full=not given.short)
    except Missing as missing:
        print(f"Speech cannot be measured. {missing}", file=sys.stderr)
        return 2
    text = document(found)
    print(text)
    if not given.short:
        FILE.write_text(text, "utf-8")
    return 1 if complaints(found) else 0


if __name__ == "__main__":
    sys.exit(main())
