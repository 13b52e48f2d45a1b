"""Where the time went, for people."""

from xml.etree import ElementTree

import pytest

from schemas.jobs import Timings
from standalone import bench_report, timeline
from standalone.bench_report import EngineFigures, Report, ServiceFigures

SPENT = {
    "upload": None,
    "decode": 0.25,
    "engine": 2.0,
    "mel": 0.1,
    "encode": 1.0,
    "tokens": 0.6,
    "load": 3.0,
    "windows": 4,
    "generated": 90,
    "fallbacks": 7,
}


def test_every_timing_is_a_part_and_the_engine_is_told_by_its_parts() -> None:
    assert {*Timings.__struct_fields__} - {*timeline.PARTS} - {*timeline.COUNTS} == {"engine"}
    parts = timeline.parts(SPENT)
    assert [*parts] == [*timeline.PARTS.values()]
    assert parts["rest of the engine"] == pytest.approx(0.3)
    assert (parts["upload"], parts["audio decoding"], parts["model load"]) == (0, 0.25, 3)
    assert len(timeline.COLOURS) == len(set(timeline.COLOURS)) == len(timeline.PARTS)


def test_timings_of_an_older_version_have_no_parts_of_the_engine() -> None:
    assert timeline.parts({"engine": 2.0})["rest of the engine"] == 2.0


def test_the_table_has_a_column_for_each_job() -> None:
    head, *lines = timeline.table({"a": SPENT, "b" * 32: {}}).splitlines()
    assert head.split() == ["a", "b" * 32]
    assert len(lines) == len(timeline.PARTS) + len(timeline.COUNTS)
    assert lines[-1].split() == ["fallbacks", "7", "0"]
    assert lines[3].split() == ["audio", "decoding", "0.2500", "0.0000"]


def test_the_plot_is_an_svg_that_needs_nothing_else() -> None:
    drawing = timeline.plot({"one <job>": SPENT, "another": SPENT})
    texts = [element.text for element in ElementTree.fromstring(drawing).iter() if element.text]
    assert {"one <job>", "another", *timeline.PARTS.values()} <= set(texts)
    assert "4 windows, 90 tokens, 7 fallbacks" in texts
    assert b"src=" not in drawing
    assert b"href=" not in drawing


def test_the_report_tells_what_did_not_fit() -> None:
    report = Report(
        audio="talk.mp3", audio_secs=100.0, speech_secs=90.0, model="large-v3", backend="CUDA0", rounds=3,
        engine=[
            EngineFigures(flash_attn=True, beam_size=5, secs=4.0, rtf=0.04, mel_secs=0.1, encode_secs=1, tokens_secs=2,
                          windows=4, tokens=90, fallbacks=7),
            EngineFigures(flash_attn=False, beam_size=5, failure="out of memory"),
        ],
        service=ServiceFigures(secs=5.0, added_secs=1.0, cold={}, warm={}),
    )  # fmt: skip
    table = bench_report.table(report)
    assert "0.0400 (25 x real time)" in table
    assert "4 windows, 90 tokens, 7 fallbacks" in table
    assert "out of memory" in table
    assert "1.000 s (25 %) more" in table
