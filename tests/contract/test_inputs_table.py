"""docs/architecture.md shows the table of what is read from others as it is."""

from pathlib import Path

from schemas.inputs import INPUTS

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "architecture.md"


def test_the_table_in_the_architecture_is_that_of_the_code() -> None:
    rows = [f"| {kind} | `{read.place}` | {read.writers} |" for kind, read in INPUTS.items()]
    table = "\n".join(["| kind | where | who writes there |", "|---|---|---|", *rows])
    shown = DOCUMENT.read_text().split("<!-- inputs -->\n")[1].split("\n<!-- /inputs -->")[0]
    assert shown == table
