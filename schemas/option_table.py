"""Write the tables of job options and of warnings into docs/USAGE.md, between their markers: `python -m schemas.option_table`.

Names, values, defaults and meanings come from TranscribeOptions and WarningCode, so that each is documented where it is declared.
"""

import ast
import inspect
import sys
import textwrap
from enum import Enum
from pathlib import Path

import msgspec
from msgspec.inspect import EnumType, FloatType, IntType, NoneType, StrType, Type, UnionType, type_info

from schemas.options import TranscribeOptions
from schemas.recordings import WarningCode

FILE = Path(__file__).parents[1] / "docs" / "USAGE.md"


def options_table() -> str:
    """Return the table of options in Markdown."""
    meanings = _docstrings(TranscribeOptions)
    rows = [
        f"| `{field.name}` | {_values(type_info(field.type))} | {_default(field.default)} | {meanings[field.name]} |"
        for field in msgspec.structs.fields(TranscribeOptions)
    ]
    return "\n".join(["| option | values | default | meaning |", "|---|---|---|---|", *rows, ""])


def warnings_table() -> str:
    """Return the table of warnings in Markdown."""
    meanings = _docstrings(WarningCode)
    rows = [f"| `{code.value}` | {meanings[code.name]} |" for code in WarningCode]
    return "\n".join(["| code | meaning |", "|---|---|", *rows, ""])


def written_into(document: str) -> str:
    """Return the document with each table between its markers. Raises ValueError where they are missing."""
    for name, table in {"options": options_table(), "warnings": warnings_table()}.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if begin not in document or end not in document:
            raise ValueError(f"the document has no markers for {name}")
        head, rest = document.split(begin, 1)
        document = f"{head}{begin}{table}{end}{rest.split(end, 1)[1]}"
    return document


def _docstrings(kind: type) -> dict[str, str]:
    """Return the docstring of each field, which is the string below it in the source."""
    [struct] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    found, last = dict[str, str](), ""
    for node in struct.body if isinstance(struct, ast.ClassDef) else []:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            last = node.targets[0].id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and last:
            found[last] = " ".join(str(node.value.value).split())
    return found


def _values(kind: Type) -> str:
    match kind:
        case UnionType(types=types):
            return "; ".join(_values(each) for each in types if not isinstance(each, NoneType))
        case EnumType(cls=cls):
            return ", ".join(f"`{member.value}`" for member in cls)
        case IntType(ge=int(low), le=int(high)):
            return f"{low:,} to {high:,}"
        case FloatType(ge=float() | int() as low, le=float() | int() as high):
            return f"{low:,.10g} to {high:,.10g}"
        case FloatType(gt=float() | int() as low, le=float() | int() as high):
            return f"above {low:,.10g}, to {high:,.10g}"
        case StrType(max_length=256):
            return "a word"
        case StrType(max_length=int(length)):
            return f"text of up to {length:,} characters"
        case _:
            return "`true`, `false`"


def _default(value: object) -> str:
    if value is None:
        return ""
    text = str(value.value if isinstance(value, Enum) else value)
    text = text.lower() if isinstance(value, bool) else text.removesuffix(".0")
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    FILE.write_text(written_into(FILE.read_text()))
    sys.stdout.write(f"{FILE} written\n")
