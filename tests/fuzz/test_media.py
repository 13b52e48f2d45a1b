"""Recordings that are cut, mixed up and made longer at random: the decoder answers in words, in time, and never dies.

FUZZ_SECS says for how long, as for the messages beside this. The seed is printed, and is new each time unless FUZZ_SEED gives it.
"""

import os
import random
import time
from pathlib import Path

from gpu_worker.audio.decoding import DecodeError, decode
from tests.recordings.bench import Bench
from tests.recordings.catalogue import FORMATS
from tests.support.ffmpeg import carried
from tests.support.http import AUDIO

SECONDS = float(os.environ.get("FUZZ_SECS", "10"))
AT_MOST_SECS = 20.0
"""For a file of 8 s, on a busy machine."""
OF_MAKING = 12
"""How many formats are made for it; those in tests/audio come beside them."""


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Return the data after one to three things that happen to files."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        at, count = draw.randrange(len(changed) or 1), draw.choice([1, 4, 64, 1000])
        match draw.randrange(6):
            case 0:
                del changed[at:]
            case 1:
                del changed[at : at + count]
            case 2:
                changed[at : at + count] = draw.randbytes(count)
            case 3:
                changed[at:at] = changed[at : at + count] * draw.randint(1, 5)
            case 4:
                # Headers are where sizes, rates and counts are.
                begin = draw.randrange(min(200, len(changed) or 1))
                changed[begin : begin + 4] = draw.choice(
                    [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"]
                )
            case _:
                for _ in range(20 if changed else 0):
                    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


async def test_no_file_ends_the_decoder(tmp_path: Path) -> None:
    seed = int(os.environ.get("FUZZ_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    draw, bench = random.Random(seed), Bench(tmp_path / "made", carried())
    whole = [
        path.read_bytes() for path in sorted(AUDIO.glob("[ets]*.*")) if path.suffix not in (".py", ".json")
    ]
    makeable = [recording for recording in FORMATS if not recording.optional]
    whole += [recording.make(bench) for recording in draw.sample(makeable, OF_MAKING)]
    until, count, said = time.monotonic() + SECONDS, 0, set[str]()
    while time.monotonic() < until:
        path = tmp_path / "fuzzed"  # kept for whoever looks at a failure
        path.write_bytes(mutated(draw.choice(whole), draw))
        begun = time.monotonic()
        try:
            await decode(path, tmp_path)
        except DecodeError as error:
            said.add(error.error.message)
        assert time.monotonic() - begun < AT_MOST_SECS, f"seed {seed}, file {count}"
        count += 1
    print(f"{count} files", *sorted(said), sep="\n  ")
    assert count > 0
    assert not [sentence for sentence in said if "/" in sentence or "makes the decoder fail" in sentence]
