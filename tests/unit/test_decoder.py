"""The decoder's decisions: where sound lies in time, how channels are mixed, what is loud, what a header says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpu_worker.audio.decoder import lengths, level, sentences
from gpu_worker.audio.decoder.confinement import bpf
from gpu_worker.audio.decoder.mixing import FADE_SAMPLES, Mixer
from gpu_worker.audio.decoder.timeline import Timeline, origin_secs

RATE = 16_000
Samples = NDArray[np.float32]


def place(stamps: list[float | None], origin: float = 0.0, end: float | None = None) -> list[float]:
    """Return where frames of 0.02 s with these time stamps go."""
    timeline, at = Timeline(origin, end), list[float]()
    for stamp in stamps:
        silence = timeline.silence_before(stamp)
        timeline.advance(max(silence, -0.02) if silence < 0 else silence)
        at.append(round(timeline.cursor, 3))
        timeline.advance(0.02)
    return at


@pytest.mark.parametrize(
    ("stamps", "places"),
    [
        ([0.0, 0.02, 0.04], [0, 0.02, 0.04]),
        ([None, None, None], [0, 0.02, 0.04]),
        ([4.0, 4.02], [4, 4.02]),  # a late start
        ([0.0, 5.0, 5.02], [0, 5, 5.02]),  # a hole
        ([0.0, 0.05, 0.04], [0, 0.02, 0.04]),  # rounded time stamps are no hole
        ([0.0, 0.02, float("nan")], [0, 0.02, 0.04]),
        ([0.0, 10.0, 0.5, 0.52], [0, 10, 10.02, 10.04]),  # the count begins again
        ([0.0, 10.0, 0.5, 3.5], [0, 10, 10.02, 13.02]),  # and has a hole
        ([0.0, 0.3, 0.22, 0.34], [0, 0.3, 0.32, 0.34]),  # jitter does not add up
    ],
)
def test_frames_go_where_the_container_says(stamps: list[float | None], places: list[float]) -> None:
    assert place(stamps) == places


def test_a_jump_behind_the_end_is_a_new_count() -> None:
    assert place([0.0, 90_000.0, 90_000.02], end=8.0) == [0, 0.02, 0.04]
    assert place([0.0, 7.0], end=8.0) == [0, 7]


def test_what_lies_before_the_beginning_is_told() -> None:
    assert Timeline(0.0, None).silence_before(-0.021) == pytest.approx(-0.021)
    assert Timeline(1.4, None).silence_before(1.4) == 0


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=30))
def test_time_never_goes_back(stamps: list[float | None]) -> None:
    places = place(stamps)
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("container", "start", "origin"),
    [("mpegts", 1.4, 1.4), ("mov", 4.0, 0), ("mov", -0.02, -0.02), ("matroska", 4.0, 0), ("wav", None, 0)],
)
def test_where_a_players_clock_begins(container: str, start: float | None, origin: float) -> None:
    assert origin_secs(container, start) == origin


def voice(seconds: float = 1.0, seed: int = 1) -> Samples:
    noise = np.random.default_rng(seed).standard_normal(int(seconds * RATE)).astype(np.float32)
    return 0.1 * noise


def rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def mixed(names: list[str], *channels: Samples) -> tuple[Samples, Mixer]:
    """The last of three equal blocks."""
    mixer, block = Mixer(names), np.stack(channels)
    return [mixer.mix(block) for _ in range(3)][-1], mixer


@pytest.mark.parametrize("count", range(2, 65))
def test_the_only_speaker_of_many_channels_keeps_his_level(count: int) -> None:
    silence = np.zeros(RATE, np.float32)
    channels = [silence] * count
    channels[count - 1] = voice()
    out, mixer = mixed([""] * count, *channels)
    np.testing.assert_allclose(out, voice(), atol=1e-6)
    assert not mixer.differ


def test_a_speaker_with_opposite_signs_is_heard() -> None:
    out, mixer = mixed(["", ""], voice(), -voice())
    np.testing.assert_allclose(np.abs(out), np.abs(voice()), atol=1e-6)
    assert mixer.differ


def test_two_speakers_are_both_heard() -> None:
    out, mixer = mixed(["", ""], voice(seed=1), voice(seed=2))
    for seed in (1, 2):
        assert np.corrcoef(out, voice(seed=seed))[0, 1] > 0.6
    assert mixer.differ
    assert not mixer.same


def test_equal_channels_are_told() -> None:
    out, mixer = mixed(["", ""], voice(), voice())
    np.testing.assert_allclose(out, voice(), atol=1e-6)
    assert (mixer.differ, mixer.same) == (False, True)


@pytest.mark.parametrize("speaking", range(6))
def test_no_channel_of_surround_is_left_out(speaking: int) -> None:
    channels = [np.zeros(RATE, np.float32) for _ in range(6)]
    channels[speaking] = voice()
    out, _ = mixed(["FL", "FR", "FC", "LFE", "BL", "BR"], *channels)
    assert rms(out) == pytest.approx(rms(voice()), rel=0.01)


def test_a_turn_is_faded_in() -> None:
    """A sudden one would click, which the voice detector takes for a sound."""
    ones, mixer = np.ones(RATE, np.float32), Mixer(["", ""])
    mixer.mix(np.stack([ones, ones]))
    out = mixer.mix(np.stack([ones, -ones]))
    assert out[0] == 0
    assert np.abs(np.diff(out)).max() < 0.01
    np.testing.assert_allclose(out[FADE_SAMPLES:], 1)


def test_one_channel_is_left_as_it_is() -> None:
    out, mixer = mixed([""], voice())
    np.testing.assert_array_equal(out, voice())
    assert (mixer.differ, mixer.same) == (False, False)


def measured(samples: Samples) -> level.Loudness:
    loudness = level.Loudness()
    loudness.add(0, samples)
    return loudness


@pytest.mark.parametrize(
    ("added", "rumbles"),
    [
        (0.0, False),
        (0.05, True),
        (0.3 * np.sin(2 * np.pi * 30 * np.arange(RATE * 4) / RATE), True),
        (0.1 * np.sin(2 * np.pi * 200 * np.arange(RATE * 4) / RATE), False),
    ],
)
def test_what_rumbles(added: float | Samples, rumbles: bool) -> None:
    assert measured((voice(4) * 0.5 + added).astype(np.float32)).rumbles is rumbles


@pytest.mark.parametrize("decibels", [-70, -60, -50, -40, -20, -10, 20, 60])
def test_every_level_becomes_one_that_is_heard(decibels: int) -> None:
    samples = voice(60) * np.float32(10 ** ((decibels + 20) / 20))
    levels = measured(samples).levels(samples.size)
    raised = levels + level.gains(levels)
    assert level.LOWEST_DB < np.median(raised) <= 0


def test_a_normal_level_is_left_as_it_is() -> None:
    samples = voice(60)
    assert not level.gains(measured(samples).levels(samples.size)).any()


def test_a_quiet_speaker_beside_a_loud_noise_is_raised_but_not_all_the_way() -> None:
    samples = np.concatenate([voice(30), voice(60) * np.float32(0.01)])
    gains = level.gains(measured(samples).levels(samples.size))
    assert gains[0] == 0
    assert gains[-1] == level.FOLLOW_DB


def test_silence_has_no_level_and_is_not_raised() -> None:
    levels = measured(np.zeros(RATE, np.float32)).levels(3 * RATE)
    assert level.loud(levels) is None
    assert not level.gains(levels).any()
    assert level.gains(np.zeros(0, np.float32)).size == 0


@given(st.binary(max_size=200))
def test_no_header_breaks_anything(rest: bytes) -> None:
    lengths.ends_inside_ogg_page(b"OggS" + rest)
    assert sentences.cannot_be_read(rest, "").endswith(".")


def test_the_last_page_of_ogg() -> None:
    page = b"OggS" + bytes(22) + b"\x02\x05\x03" + b"12345678"
    assert not lengths.ends_inside_ogg_page(page)
    assert lengths.ends_inside_ogg_page(page[:-1])
    assert lengths.ends_inside_ogg_page(page + b"OggS")
    assert not lengths.ends_inside_ogg_page(b"")


def test_what_is_only_a_guess() -> None:
    assert lengths.is_guess(7.99, 63_920, 64_000)
    assert not lengths.is_guess(7.99, 40_000, 64_000)
    assert not lengths.is_guess(7.99, 40_000, None)


@pytest.mark.parametrize(
    ("declared", "ended", "short"),
    [(None, 1, False), (10, 9.1, False), (10, 8.9, True), (1000, 985, False), (1000, 975, True)],
)
def test_what_is_short(declared: float | None, ended: float, short: bool) -> None:
    assert lengths.is_short(declared, ended) is short


def test_the_filter_jumps_to_its_last_instruction() -> None:
    """A jump counts from the instruction behind it. The first one is about the machine, one for each call follows."""
    program = [bpf(7, (41, 42))[at : at + 8] for at in range(0, 8 * 7, 8)]
    assert len(program) == 7
    assert [(code[2], code[3]) for code in program] == [
        (0, 0),
        (0, 4),
        (0, 0),
        (2, 0),
        (1, 0),
        (0, 0),
        (0, 0),
    ]
