"""docs/models.md: what it computes is what the code computes, and the names and sizes are those that the command knows."""

import re
import subprocess
import sys
from pathlib import Path

from standalone.known_models import KNOWN

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "models.md").read_text()
WINDOW_SECS, TOKENS, BEAMS = 30, 100, 5


def rows(name: str) -> list[list[str]]:
    """The cells of the table between two comments, without its head."""
    table = PAGE.split(f"<!-- {name} -->\n", 1)[1].split(f"<!-- /{name} -->", 1)[0]
    return [[cell.strip(" `") for cell in line.strip("|\n").split("|")] for line in table.splitlines()[2:]]


def test_the_vram_table_is_what_its_command_prints() -> None:
    command = PAGE.split("<!-- vram command -->\n```python\n", 1)[1].split("```", 1)[0]
    printed = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines() == [f"{name}: {least}, {about}" for name, _, _, least, about in rows("vram")]


def test_sizes_are_the_published_ones() -> None:
    for name, size, *_ in rows("vram"):
        if name in KNOWN:
            assert size == KNOWN[name].size


def test_factors_follow_from_the_published_times() -> None:
    for _, model, encoder, _, batched, factor, _ in rows("windows"):
        computed = (float(encoder) + TOKENS * BEAMS * float(batched)) / 1000 / WINDOW_SECS
        assert f"{computed:.3f}" == factor, model


def test_every_source_that_is_cited_is_listed() -> None:
    text, sources = PAGE.split("## Sources", 1)
    cited = set(re.findall(r"\[(\d+)a?\](?!\()", text))
    assert cited == set(re.findall(r"^(\d+)\. ", sources, re.MULTILINE))


def test_names_in_the_first_table_are_known() -> None:
    first = PAGE.split("\n- ", 1)[0]
    named = re.findall(r"`([\w.-]+)`", first)
    assert {name for name in named if name not in KNOWN} == {".en"}
