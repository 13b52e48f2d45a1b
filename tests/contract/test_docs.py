"""The documents: tables of contents, links, short paragraphs, and paths that exist, also in comments and docstrings."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "nats").glob("*.md")]
WITH_CONTENTS = [ROOT / "docs" / name for name in ("USAGE.md", "operations.md")]
SHORT = [*WITH_CONTENTS, ROOT / "docs" / "extending.md"]
HISTORY = ("CHANGELOG.md", "evidence/")
"""What tells of the past may name files that are gone."""
FOLDERS = "broker|gateway|gpu_worker|schemas|standalone|process|asyncapi|benchmarks|docker|docs|nats|tests|demo_model"
PATH = re.compile(rf"(?<![\w./-])((?:{FOLDERS})/[\w./-]+\.(?:py|md|json|toml|conf|sh|lock|svg))(?![\w/])")
MAX_SENTENCES, MAX_CHARS = 5, 700


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def headings(document: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    return re.findall(r"^#{2,3} (.+)$", text, re.MULTILINE)


def paragraphs(text: str) -> list[str]:
    """Blocks of prose: no code, no tables, no headings; each item of a list is one."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    blocks = re.split(r"\n\s*\n|\n(?=- |\d+\. )", text)
    return [b.strip() for b in blocks if b.strip() and not b.strip().startswith(("|", "#", "<!--"))]


@pytest.mark.parametrize("document", WITH_CONTENTS, ids=lambda p: p.name)
def test_every_heading_is_in_the_table_of_contents_in_its_order(document: Path) -> None:
    head = document.read_text().split("\n## ", 1)[0]
    linked = re.findall(r"^\s*- \[(.+)\]\(#(.+)\)$", head, re.MULTILINE)
    assert linked == [(heading, anchor(heading)) for heading in headings(document)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", document.read_text()):
        path, _, fragment = target.partition("#")
        linked = document.parent / path if path else document
        assert linked.exists(), target
        if fragment:
            assert fragment in {anchor(heading) for heading in headings(linked)}, target


@pytest.mark.parametrize("document", SHORT, ids=lambda p: p.name)
def test_paragraphs_are_short(document: Path) -> None:
    for paragraph in paragraphs(document.read_text()):
        sentences = len(re.findall(r"[.!?:](?=\s|$)", paragraph))
        assert sentences <= MAX_SENTENCES, paragraph
        assert len(paragraph) <= MAX_CHARS, paragraph


def test_paths_that_documents_and_comments_name_exist() -> None:
    """Brackets and stars stand for a choice, and are no paths."""
    documents = [d for d in DOCUMENTS if not any(part in str(d.relative_to(ROOT)) for part in HISTORY)]
    sources = [path for folder in FOLDERS.split("|") for path in (ROOT / folder).rglob("*.py")]
    named = {
        (document.relative_to(ROOT), name)
        for document in [*documents, *sources, ROOT / "Makefile", ROOT / "Dockerfile"]
        for name in PATH.findall(document.read_text())
    }
    assert len(named) > 100
    assert sorted(f"{where}: {name}" for where, name in named if not (ROOT / name).exists()) == []


def test_the_drawing_of_the_house_has_every_module() -> None:
    house = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
    rooms = ("schemas", "process", "broker", "asyncapi", "gateway", "gpu_worker", "standalone")
    modules = {
        path.stem for room in rooms for path in (ROOT / room).rglob("*.py") if not path.stem.startswith("__")
    }
    in_a_folder_of_its_area = {
        path.stem for folder in ("routes", "openapi") for path in (ROOT / "gateway" / folder).glob("*.py")
    }
    missing = {name for name in modules - in_a_folder_of_its_area if not re.search(rf"\b{name}\b", house)}
    assert missing == set()
