"""The plan: probabilities in, stretches out."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpu_worker.audio.stretches import WINDOW, PlanSettings, Span, after, file_seconds, length, plan
from gpu_worker.pcm import SAMPLE_RATE

RATE = SAMPLE_RATE
DEFAULT = PlanSettings()


def activity(*parts: tuple[float, float]) -> tuple[NDArray[np.float32], Span]:
    """(seconds, probability) pairs to probabilities per window and all samples."""
    found = np.concatenate([np.full(round(secs * RATE / WINDOW), p, np.float32) for secs, p in parts])
    return found, (0, found.size * WINDOW)


def seconds(stretch: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(start / RATE, end / RATE) for start, end in stretch]


def test_silence_is_no_stretch() -> None:
    assert plan(*activity((60, 0.05)), DEFAULT) == []
    assert plan(np.zeros(0, np.float32), (0, 0), DEFAULT) == []


def test_speech_is_padded_and_short_pauses_are_kept() -> None:
    found = plan(*activity((5, 0), (3, 0.9), (1.5, 0), (3, 0.9), (5, 0)), DEFAULT)
    [[(start, end)]] = [seconds(s) for s in found]
    assert start == pytest.approx(4.6, abs=0.05)
    assert end == pytest.approx(12.9, abs=0.05)


def test_long_pauses_are_cut_out() -> None:
    [stretch] = plan(*activity((1, 0), (3, 0.9), (30, 0), (3, 0.9), (20, 0)), DEFAULT)
    assert len(stretch) == 2
    assert length(stretch) / RATE == pytest.approx(3 * 2 + 4 * 0.4, abs=0.1)
    assert plan(*activity((1, 0), (3, 0.9), (30, 0)), DEFAULT, skip=False)[0][0][0] == 0


def test_clicks_are_no_speech_and_hesitation_is() -> None:
    assert plan(*activity((5, 0), (0.06, 0.99), (5, 0)), DEFAULT) == []
    [[(start, end)]] = plan(*activity((5, 0), (1, 0.9), (1, 0.4), (1, 0.9), (5, 0)), DEFAULT)
    assert (end - start) / RATE == pytest.approx(3.8, abs=0.1)


def test_stretches_end_in_a_pause_where_there_is_one() -> None:
    found = plan(*activity((140, 0.9), (1, 0.01), (90, 0.9)), DEFAULT)
    assert len(found) == 2
    assert found[0][-1][1] / RATE == pytest.approx(140.5, abs=0.5)
    assert found[0][-1][1] == found[1][0][0]


def test_stretches_of_continuous_speech_are_full() -> None:
    """Each ends with a window of whisper's that is not full."""
    sentences = [part for _ in range(300) for part in ((3.7, 0.9), (0.4, 0.1))]
    lengths = [length(s) / RATE for s in plan(*activity(*sentences), DEFAULT)][:-1]
    assert sum(lengths) / len(lengths) > 130


def test_without_any_pause_the_limit_holds() -> None:
    found = plan(*activity((1000, 0.95)), DEFAULT)
    assert all(length(s) <= DEFAULT.target_secs * RATE for s in found)
    assert sum(length(s) for s in found) == 1000 * RATE


def test_times_in_the_file() -> None:
    stretch = [(10 * RATE, 20 * RATE), (50 * RATE, 60 * RATE)]
    assert file_seconds(stretch, 0) == 10
    assert file_seconds(stretch, 9.5) == 19.5
    assert file_seconds(stretch, 10) == 20
    assert file_seconds(stretch, 12.25) == 52.25
    assert file_seconds(stretch, 20) == 60
    assert file_seconds(stretch, 99) == 60


def test_the_rest_of_a_stretch() -> None:
    stretch = [(10 * RATE, 20 * RATE), (50 * RATE, 60 * RATE)]
    assert after(stretch, 0) == stretch
    assert after(stretch, 15) == [(15 * RATE, 20 * RATE), (50 * RATE, 60 * RATE)]
    assert after(stretch, 30) == [(50 * RATE, 60 * RATE)]
    assert after(stretch, 60) == []


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(st.tuples(st.floats(0.1, 200), st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.95])), max_size=12),
    extra=st.integers(0, WINDOW - 1),
    target=st.sampled_from([30.0, 60.0, 120.0]),
    skip=st.booleans(),
)
def test_any_plan_is_sound(parts: list[tuple[float, float]], extra: int, target: float, skip: bool) -> None:
    probabilities, (_, samples) = activity(*parts) if parts else (np.zeros(0, np.float32), (0, 0))
    samples = max(1, samples - extra)
    config = PlanSettings(target_secs=target)
    stretches = plan(probabilities, (0, samples), config, skip=skip)
    spans = [span for stretch in stretches for span in stretch]
    assert all(0 <= start < end <= samples for start, end in spans)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert all(0 < length(s) <= target * RATE for s in stretches)
    assert stretches == plan(probabilities, (0, samples), config, skip=skip)
    if skip:
        covered = np.zeros(samples + WINDOW, bool)
        for start, end in spans:
            covered[start:end] = True
        sure = (
            np.convolve(probabilities >= 0.95, np.ones(9), "same") >= 9
            if probabilities.size > 9
            else np.zeros(0)
        )
        assert all(covered[window * WINDOW] for window in np.flatnonzero(sure) if window * WINDOW < samples)
    else:
        assert sum(length(s) for s in stretches) == samples
