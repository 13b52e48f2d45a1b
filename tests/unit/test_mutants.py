"""The list of breakages (`make mutants`) says what the tree says: it must not rot while nobody runs it."""

import ast
from pathlib import Path

import pytest

from tests.mutants.breakages import BREAKAGES, Breakage

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda b: f"{b.file}: {' '.join(b.old.split())[:50]}")
def test_a_breakage_can_be_made(breakage: Breakage) -> None:
    whole = (ROOT / breakage.file).read_text()
    assert whole.count(breakage.old) == 1
    ast.parse(whole.replace(breakage.old, breakage.new))
    path, _, name = breakage.test.partition("::")
    assert name in {
        node.name
        for node in ast.parse((ROOT / path).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_there_are_enough_and_each_is_another() -> None:
    assert len(BREAKAGES) >= 30
    assert len({(b.file, b.old) for b in BREAKAGES}) == len(BREAKAGES)
