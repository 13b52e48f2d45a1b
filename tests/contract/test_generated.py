"""What is generated is true, and what the rules say of the tree holds."""

import re
from pathlib import Path
from typing import Any

import pytest

from asyncapi import document as asyncapi
from gateway.app import create_app
from gateway.openapi import document as openapi
from gateway.routes import docs as doc_routes
from gateway.routes import health as health_routes
from gateway.routes import jobs as job_routes
from gateway.routes import model as model_routes
from gateway.routes import webhooks as webhook_routes
from schemas import export, option_table
from schemas.errors import HTTP_STATUS, ErrorCode
from schemas.job_lifecycle import TRANSITIONS

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("schemas", "process", "broker", "asyncapi", "gateway", "gpu_worker", "standalone")
SOURCES = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def test_json_schemas_are_those_of_the_code() -> None:
    written = {path.name: path.read_bytes() for path in export.FOLDER.glob("*.json")}
    assert written == export.documents(), "run `make generate`"


def test_the_options_in_the_usage_are_those_of_the_code() -> None:
    assert option_table.FILE.read_text() == option_table.written_into(option_table.FILE.read_text()), (
        "run `make generate`"
    )


def test_the_openapi_document_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "openapi.json").read_bytes() == openapi.encoded(), "run `make generate`"


def test_the_asyncapi_document_is_that_of_the_code_and_whole() -> None:
    assert (ROOT / "docs" / "asyncapi.json").read_bytes() == asyncapi.encoded(), "run `make generate`"
    document = asyncapi.document()
    text = asyncapi.encoded().decode()
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', text):
        found = document
        for step in reference.split("/"):
            found = found[step]
    addresses = {channel["address"] for channel in document["channels"].values()}
    for stream in document["x-streams"]:
        for pattern in stream["subjects"]:
            assert any(re.fullmatch(_pattern(pattern), address) for address in addresses), pattern


def _pattern(subject: str) -> str:
    return re.escape(subject).replace(r"\*", r"[^.]+").replace(">", ".+")


unused: Any = None  # only the routes are looked at, and no operation is called


def test_every_route_is_in_the_openapi_document_and_the_other_way_round() -> None:
    blueprints = [
        webhook_routes.blueprint(unused),
        job_routes.blueprint(unused, unused, unused),
        model_routes.blueprint(unused, unused),
        health_routes.blueprint(unused, ""),
        doc_routes.blueprint(),
    ]
    app = create_app(blueprints, lambda: True, 1.0)
    served = {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if not rule.rule.startswith(("/docs", "/openapi")) and method not in ("HEAD", "OPTIONS")
    }
    described = {(path, method) for path, item in openapi.document()["paths"].items() for method in item}
    assert served == described


def test_each_error_code_is_answered_or_told_in_a_job() -> None:
    in_jobs = {
        c
        for c in ErrorCode
        if c.startswith(("audio_", "decode_", "track_", "channel_", "engine_", "worker_", "transcription_"))
    }
    assert set(HTTP_STATUS) | in_jobs == set(ErrorCode) - {ErrorCode.UNKNOWN}
    assert not set(HTTP_STATUS) & in_jobs


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_subjects_and_streams_are_named_in_one_place(path: Path) -> None:
    if path.relative_to(ROOT).as_posix() in ("schemas/subjects.py",):
        return
    code = re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL)
    names = r"""["']whisper\.(jobs|events|model)|["']WHISPER_(JOBS|EVENTS|AUDIO|RECORDS|WORKERS)\b"""
    assert not re.search(names, code)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_small_and_say_what_they_are(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 300
    if lines:
        assert lines[0].startswith('"""')


def test_no_python_in_a_folder_named_nats() -> None:
    """It would hide nats-py."""
    assert [p for p in ROOT.rglob("nats/**/*.py") if ".venv" not in p.parts] == []


def test_lock_files_have_hashes_and_no_addresses() -> None:
    for name in ("run.lock", "dev.lock"):
        text = (ROOT / "requirements" / name).read_text()
        assert "://" not in text
        assert "--index" not in text
        requirements = re.split(r"\n(?=\S)", text.strip())
        assert all("--hash=sha256:" in requirement for requirement in requirements)


def test_the_lifecycle_picture_in_the_docs_is_that_of_the_table() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for status, row in TRANSITIONS.items():
        for change, after in row.items():
            assert f"{status} --> {after}: {change.__name__}" in text
