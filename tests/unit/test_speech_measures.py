"""What is measured of speech: wrong words, wrong times, runs that differ; and what a lock file says of a package."""

import pytest

from tests.speech.measures import (
    Errors,
    Heard,
    Said,
    agreement,
    errors,
    measure,
    middle_and_worst,
    off,
    same,
    times,
)
from tests.speech.packages import SPEECH_LOCK, Missing, hashes, requirement
from tests.speech.weights import SOURCES

SPEECH = [(10.0, 14.0), (100.0, 105.0)]


def heard(*segments: Said, words: tuple[Said, ...] = (), secs: float = 1.0) -> Heard:
    return Heard(language="en", segments=segments, words=words, secs=secs)


@pytest.mark.parametrize(
    ("reference", "found", "language", "expected"),
    [
        ("and mister john", " And Mr. John.", "en", Errors(0, 3)),
        ("the colour of eight", "The color of 8", "en", Errors(0, 4)),
        ("ask not what", "ask what what now", "en", Errors(2, 3)),
        ("ask not what", "", "en", Errors(3, 3)),
        ("", "[Music] thank you", "en", Errors(2, 0)),
        ("", "", None, Errors(0, 0)),
        ("c'est la dictée", "C'est la dictée.", "fr", Errors(0, 4)),
        ("砸自己的脚", "砸自己的腳。", "zh", Errors(1, 5)),
        ("こんにちは", "こん にちは", "ja", Errors(0, 5)),
    ],
)
def test_errors_are_counted_without_spelling(
    reference: str, found: str, language: str | None, expected: Errors
) -> None:
    assert errors(reference, found, language) == expected


def test_rates_are_of_the_reference() -> None:
    assert (Errors(1, 3) + Errors(0, 7)).rate == pytest.approx(0.1)
    assert Errors(2, 0).rate == 2
    assert [measure(language) for language in ("en", "zh", "ja", None)] == ["WER", "CER", "CER", "WER"]


def test_times_are_compared_with_the_speech_that_a_segment_lies_in() -> None:
    found = times(heard(Said(10.5, 12, " a"), Said(12, 13.5, " b"), Said(99, 107, " c")), SPEECH)
    assert (found.starts, found.ends, found.missed) == ((0.5, -1.0), (-0.5, 2.0), 0)
    assert found.off_starts == (0, 0, 1)
    assert found.off_ends == (0, 0, 2)


def test_speech_without_a_segment_of_its_own_is_missed() -> None:
    found = times(heard(Said(20, 102, " stretched")), SPEECH)
    assert (found.missed, found.starts, found.off_starts) == (2, (), (6,))


def test_words_in_a_pause_and_words_that_last_too_long_are_counted() -> None:
    words = (Said(10, 10.4, " a"), Said(12, 101, " so"), Said(50, 50.2, " it"))
    found = times(heard(Said(10, 101, " a so it"), words=words), SPEECH)
    assert (found.long_words, found.off_words) == (1, 2)


def test_distance_from_speech() -> None:
    assert [off(time, SPEECH) for time in (8, 10, 12, 14.5, 60, 200)] == [2, 0, 0, 0.5, 40, 95]
    assert off(1, []) == 0
    assert middle_and_worst([-3, 1, 2]) == (2, 3)
    assert middle_and_worst([]) == (0, 0)


def test_runs_are_the_same_where_all_but_their_duration_is() -> None:
    one = heard(Said(0, 1, " a"), words=(Said(0, 1, " a"),))
    assert same([one, heard(Said(0, 1, " a"), words=(Said(0, 1, " a"),), secs=9)])
    assert not same([one, one, heard(Said(0, 1, " a"), words=(Said(0, 0.9, " a"),))])
    assert not same([one, heard(Said(0, 1, " b"), words=(Said(0, 1, " a"),))])


def test_runs_that_differ_say_in_what() -> None:
    one = heard(Said(0, 1, " a"))
    others = (one, heard(Said(0, 2, " a")), heard(Said(0, 1, " b")))
    assert [agreement([one, other]) for other in others] == ["alike", "times differ", "text differs"]


def test_the_lock_names_every_package_of_weights_with_its_hashes() -> None:
    lock = SPEECH_LOCK.read_text()
    for name in {name for source in SOURCES.values() for name in source.packages()} | {"cmake"}:
        assert hashes(requirement(lock, name))


def test_a_requirement_ends_where_the_next_one_begins() -> None:
    lock = (
        "one==1 \\\n    --hash=sha256:" + "a" * 64 + "\none-more==2 \\\n    --hash=sha256:" + "b" * 64 + "\n"
    )
    assert hashes(requirement(lock, "one")) == {"a" * 64}
    with pytest.raises(Missing, match="No lock file names the package other"):
        requirement(lock, "other")
