"""Write the table of job options into docs/USAGE.md, between its markers: `python -m schemas.option_table`.

Name, values, default and meaning come from the struct TranscribeOptions, so that a new option is documented where it is declared.
"""

import ast
import inspect
import sys
import textwrap
from enum import Enum
from pathlib import Path

import msgspec
from msgspec.inspect import EnumType, FloatType, IntType, StrType, Type, type_info

from schemas.jobs import TranscribeOptions

FILE = Path(__file__).parents[1] / "docs" / "USAGE.md"
BEGIN, END = "<!-- options -->\n", "<!-- /options -->"


def table() -> str:
    """Return the table in Markdown."""
    meanings = _docstrings(TranscribeOptions)
    rows = [
        f"| `{field.name}` | {_values(type_info(field.type))} | {_default(field.default)} | {meanings[field.name]} |"
        for field in msgspec.structs.fields(TranscribeOptions)
    ]
    return "\n".join(["| option | values | default | meaning |", "|---|---|---|---|", *rows, ""])


def written_into(document: str) -> str:
    """Return the document with the table between its markers. Raises ValueError where they are missing."""
    if BEGIN not in document or END not in document:
        raise ValueError("the document has no markers for the options")
    head, rest = document.split(BEGIN, 1)
    return f"{head}{BEGIN}{table()}{END}{rest.split(END, 1)[1]}"


def _docstrings(kind: type) -> dict[str, str]:
    """Return the docstring of each field, which is the string below it in the source."""
    [struct] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    found, last = dict[str, str](), ""
    for node in struct.body if isinstance(struct, ast.ClassDef) else []:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and last:
            found[last] = " ".join(str(node.value.value).split())
    return found


def _values(kind: Type) -> str:
    match kind:
        case EnumType(cls=cls):
            return ", ".join(f"`{member.value}`" for member in cls)
        case IntType(ge=low, le=high) | FloatType(ge=low, le=high):
            return f"{low:g} to {high:g}"
        case StrType(max_length=int(length)):
            return f"text of up to {length:,} characters"
        case _:
            return "`true`, `false`"


def _default(value: object) -> str:
    text = str(value.value if isinstance(value, Enum) else value)
    text = text.lower() if isinstance(value, bool) else text.removesuffix(".0")
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    FILE.write_text(written_into(FILE.read_text()))
    sys.stdout.write(f"{FILE} written\n")
