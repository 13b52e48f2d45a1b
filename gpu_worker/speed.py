"""How fast this worker is, by its last jobs. Pure."""

from schemas.model import Speed

WEIGHT_OF_NEWEST = 0.3
"""Of an exponentially weighted mean: about the last six jobs count."""


def after_job(before: Speed | None, audio_secs: float, secs: float) -> Speed:
    """`secs` is what a job of `audio_secs` (above 0) took on the engine."""
    factor = secs / audio_secs
    if before is None:
        return Speed(real_time_factor=factor, audio_secs=audio_secs)
    return Speed(
        real_time_factor=before.real_time_factor + WEIGHT_OF_NEWEST * (factor - before.real_time_factor),
        audio_secs=before.audio_secs + WEIGHT_OF_NEWEST * (audio_secs - before.audio_secs),
    )
