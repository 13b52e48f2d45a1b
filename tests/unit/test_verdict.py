"""A decoder's report becomes what the job says of its recording, or why it fails."""

import msgspec
import pytest

from gpu_worker.audio.decoder.protocol import Report, TrackFacts
from gpu_worker.audio.verdict import Findings, judge
from gpu_worker.job.preparing import ending
from gpu_worker.job.segments import in_order_of_time
from schemas.errors import ErrorCode, JobError
from schemas.jobs import Segment
from schemas.options import TranscribeOptions
from schemas.recordings import WarningCode

TRACK = TrackFacts(
    number=1,
    codec="mp3",
    channels=2,
    layout="stereo",
    sample_rate=44_100,
    start_secs=0.0250566,
    title="Talk",
    is_default=True,
)
GOOD = Report(
    container="mp3",
    tracks=[TRACK],
    track=1,
    files=["0.pcm"],
    samples=160_000,
    declared_secs=10.02,
    track_declared_secs=10.02,
    reached_secs=10.0,
    decoded_samples=441_000,
    decoder_errors=0,
    ends_inside=False,
    silent_tracks=[],
    level_db=-20.0,
    gain_db=0.0,
    channels_differ=False,
    channels_same=False,
)
MIXED = TranscribeOptions()
SPLIT, STRICT = TranscribeOptions(channels="split"), TranscribeOptions(strict=True)


def findings(options: TranscribeOptions = MIXED, **changed: object) -> Findings:
    found = judge(msgspec.structs.replace(GOOD, **changed), options)
    assert isinstance(found, Findings)
    return found


def error(options: TranscribeOptions = MIXED, **changed: object) -> JobError:
    found = judge(msgspec.structs.replace(GOOD, **changed), options)
    assert isinstance(found, JobError)
    return found


def test_a_good_file_has_nothing_to_say() -> None:
    found = findings()
    assert (found.warnings, found.duration_secs) == ((), 10.02)
    assert msgspec.to_builtins(found.source) == {
        "container": "mp3",
        "codec": "mp3",
        "track": 1,
        "tracks": 1,
        "title": "Talk",
        "channels": 2,
        "layout": "stereo",
        "sample_rate": 44_100,
        "start_secs": 0.025,
    }


@pytest.mark.parametrize(
    ("changed", "options", "code"),
    [
        ({"reached_secs": 5.0}, MIXED, WarningCode.AUDIO_TRUNCATED),
        ({"ends_inside": True}, MIXED, WarningCode.AUDIO_TRUNCATED),
        ({"ends_inside": True, "container": "wav", "reached_secs": 9.8}, MIXED, WarningCode.AUDIO_TRUNCATED),
        ({"decoder_errors": 3}, MIXED, WarningCode.AUDIO_DAMAGED),
        ({"container": "flac", "reached_secs": 9.95}, MIXED, WarningCode.AUDIO_DAMAGED),
        ({"channels_differ": True}, MIXED, WarningCode.CHANNELS_DIFFER),
        ({"channels_same": True, "files": ["0", "1"]}, SPLIT, WarningCode.CHANNELS_SAME),
        ({"level_db": -58.0, "gain_db": 38.0}, MIXED, WarningCode.QUIET),
        ({"level_db": None}, MIXED, WarningCode.SILENT),
        ({"silent_tracks": [1, 2]}, MIXED, WarningCode.TRACK_SILENT),
    ],
)
def test_each_warning(changed: dict[str, object], options: TranscribeOptions, code: WarningCode) -> None:
    [warning] = findings(options, **changed).warnings
    assert warning.code is code
    assert warning.message.endswith(".")


@pytest.mark.parametrize(
    ("changed", "options"),
    [
        ({"channels_differ": True, "files": ["0", "1"]}, SPLIT),
        ({"channels_same": True}, MIXED),
        ({"reached_secs": 9.1}, MIXED),
        ({"ends_inside": True, "container": "wav"}, MIXED),
    ],
)
def test_what_is_as_it_should_be_is_not_told(changed: dict[str, object], options: TranscribeOptions) -> None:
    assert findings(options, **changed).warnings == ()


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"reached_secs": 5.0}, ErrorCode.AUDIO_TRUNCATED),
        ({"decoder_errors": 1}, ErrorCode.AUDIO_DAMAGED),
    ],
)
def test_who_is_strict_gets_an_error(changed: dict[str, object], code: ErrorCode) -> None:
    assert error(STRICT, **changed).code is code


def test_who_is_strict_gets_what_is_merely_quiet() -> None:
    assert findings(STRICT, level_db=-58.0).warnings[0].code is WarningCode.QUIET


@pytest.mark.parametrize(
    ("declared", "samples", "duration"),
    [(None, 160_000, 10), (10.02, 160_000, 10.02), (20.0, 160_000, 20), (3.0, 160_000, 10)],
)
def test_the_duration_is_the_containers_unless_there_is_more(
    declared: float | None, samples: int, duration: float
) -> None:
    assert findings(declared_secs=declared, samples=samples).duration_secs == duration


def test_segments_of_several_channels_come_in_order_of_time() -> None:
    found = [
        Segment(index=0, start=start, end=start + 1, text="x", channel=channel)
        for start, channel in [(0.5, 1), (4.0, 1), (0.5, 2), (2.0, 2), (4.0, 2)]
    ]
    places = [(0.5, 1), (0.5, 2), (2.0, 2), (4.0, 1), (4.0, 2)]
    assert [(s.start, s.channel) for s in in_order_of_time(found)] == places


@pytest.mark.parametrize(
    ("filename", "expected"),
    [(None, ""), ("talk.MP3", ".MP3"), ("../../x", ""), ("a.b/c", ""), ("x.\n", ""), ("x.toolongending", "")],
)
def test_what_a_files_name_ends_with(filename: str | None, expected: str) -> None:
    assert ending(filename) == expected
