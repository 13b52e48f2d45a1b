"""`make bench`: measure, and print one table, in markdown and as JSON; `python -m benchmarks [NAME...] [--write]`.

--write keeps the table in docs/performance.md and docs/performance.json. WHISPER_SERVER and WHISPER_CLI, paths of
whisper.cpp's own programs, are measured side by side where they are given.
"""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks import gateway, jobs, life, transfer
from benchmarks.harness import Bench, Row, bench, machine

ALL: list[Callable[[Bench], list[Row]]] = [
    jobs.back_to_back,
    jobs.one_tiny_job,
    transfer.upload_and_fetch,
    transfer.decode_of_an_hour,
    gateway.event_streams,
    gateway.submit_rate,
    jobs.cancel,
    jobs.memory_of_long_files,
    life.idle,
    life.start,
]
DOCS = Path(__file__).parent.parent / "docs"
HEAD = """# Performance

Each figure is a ratio to a bare baseline, or a limit, measured in the same run on the same machine by `make bench`
(`benchmarks/`). Medians; the spread is each round's value. Written by `python -m benchmarks --write`; what is behind the
figures, and what is not measured here, is in [adr/0013](adr/0013-where-the-time-goes.md).

"""


def table(rows: list[Row]) -> str:
    lines = ["| measure | baseline | goal | measured | spread | met | |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        spread = ", ".join(f"{value:.3g}" for value in r.spread) if len(r.spread) > 1 else ""
        met = "-" if r.goal == "-" else "yes" if r.met else "**no**"
        lines.append(
            f"| {r.measure} | {r.baseline} | {r.goal} | {r.value:.3g} | {spread} | {met} | {r.note} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    names = [name for name in arguments if not name.startswith("--")]
    rows: list[Row] = []
    with bench() as running:
        for measure in ALL:
            if not names or measure.__name__ in names:
                sys.stderr.write(f"{measure.__name__} ...\n")
                rows += measure(running)
    about, at = machine(), f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    described = "\n".join(f"- {name}: {value}" for name, value in about.items())
    text = f"{at}\n\n{described}\n\n{table(rows)}"
    body = msgspec.json.format(msgspec.json.encode({"at": at, "machine": about, "rows": rows})).decode()
    print(text)
    print(body)
    if "--write" in arguments:
        (DOCS / "performance.md").write_text(HEAD + text)
        (DOCS / "performance.json").write_text(body + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
