"""How fast this worker is, measured on its last jobs. Pure."""

from schemas.model import Speed

WEIGHT_OF_NEWEST = 0.3
"""Weight of the newest job in an exponentially weighted mean: about the last six jobs count."""
SHORTEST_SECS = 1.0
"""Shorter audio counts as this long: the engine's fixed costs would make a factor of thousands of a job of one sample."""


def after_job(before: Speed | None, audio_secs: float, secs: float) -> Speed:
    """Return the speed after a job of `audio_secs` seconds of audio that took `secs` seconds on the engine."""
    audio_secs = max(audio_secs, SHORTEST_SECS)
    factor = secs / audio_secs
    if before is None:
        return Speed(real_time_factor=factor, audio_secs=audio_secs)
    return Speed(
        real_time_factor=before.real_time_factor + WEIGHT_OF_NEWEST * (factor - before.real_time_factor),
        audio_secs=before.audio_secs + WEIGHT_OF_NEWEST * (audio_secs - before.audio_secs),
    )
