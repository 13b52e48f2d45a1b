"""One order, carried out: open, choose a track, decode it, and try the next track where this one has no sound."""

from pathlib import Path

from av.container import InputContainer

from gpu_worker.audio.decoder import container
from gpu_worker.audio.decoder.container import Undecodable
from gpu_worker.audio.decoder.protocol import Order, Report, TrackFacts
from gpu_worker.audio.decoder.track_decoding import TrackDecoding
from schemas.errors import ErrorCode


def decode(order: Order) -> Report:
    """Carry out an order. Raises Undecodable, OSError."""
    numbers = [order.track] if order.track is not None else order_of_trial(_tracks(order))
    silent: list[int] = []
    quiet: list[Report] = []
    failures: list[Undecodable] = []
    for number in numbers:
        try:
            report = _decode(order, number, silent)
        except Undecodable as failure:
            if failure.code is ErrorCode.AUDIO_TOO_LONG:
                raise
            failures.append(failure)
        else:
            if report.level_db is not None:
                return report
            quiet.append(report)
        silent.append(number)
    if not quiet:
        raise failures[0]
    # No track has any sound, so that the first is as good as the others. They have written over its file.
    return quiet[0] if len(numbers) == 1 else _decode(order, quiet[0].track, [])


def order_of_trial(tracks: list[TrackFacts]) -> list[int]:
    """Return the numbers of the tracks: the default ones first, the others behind them, each in the order of the file."""
    return [track.number for track in sorted(tracks, key=lambda track: (not track.is_default, track.number))]


def _tracks(order: Order) -> list[TrackFacts]:
    with Path(order.source).open("rb") as file:
        ends = container.ends_of(file)
        with container.open_container(file, ends, order.raw, _ending(order)) as source:
            return container.tracks(source, ends.head)


def _decode(order: Order, number: int, silent: list[int]) -> Report:
    with Path(order.source).open("rb") as file:
        ends = container.ends_of(file)
        with container.open_container(file, ends, order.raw, _ending(order)) as source:
            found = container.tracks(source, ends.head)
            return TrackDecoding(order, ends, source, _track(found, number, source)).run(found, list(silent))


def _ending(order: Order) -> str:
    return Path(order.source).suffix.removeprefix(".").lower()


def _track(found: list[TrackFacts], number: int, source: InputContainer) -> TrackFacts:
    """Return the wanted track. Raises Undecodable where it is not there or is no recording."""
    if number > len(found):
        message = f"The file has no audio track {number}: it has {len(found)}."
        raise Undecodable(ErrorCode.TRACK_MISSING, message)
    track = found[number - 1]
    container.check_track(track, container.short_name(source))
    return track
