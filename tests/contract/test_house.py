"""The house rules that a program can check: short modules, short parameter lists, documented public names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PRODUCT = ("schemas", "process", "broker", "asyncapi", "gateway", "gpu_worker", "standalone")
SOURCES = [path for room in (*PRODUCT, "benchmarks") for path in (ROOT / room).rglob("*.py")]
MAX_LINES, MAX_PARAMETERS = 300, 6

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Without self and cls."""
    given = function.args
    listed = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return len([p for p in listed if p.arg not in ("self", "cls")])


def public(node: ast.AST) -> Iterator[Definition]:
    """Public classes and functions, and their public methods; what is inside a function is not public."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public(child)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_is_short_and_its_functions_take_little(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
    assert [f.name for f in functions(path) if parameters(f) > MAX_PARAMETERS] == []


@pytest.mark.parametrize(
    "path",
    [p for p in SOURCES if p.relative_to(ROOT).parts[0] in PRODUCT],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_every_public_name_is_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree)
    assert [node.name for node in public(tree) if not ast.get_docstring(node)] == []
