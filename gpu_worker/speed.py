"""How fast this worker is, measured on its last jobs. Pure."""

from schemas.model import Speed

WEIGHT_OF_NEWEST = 0.3
"""Weight of the newest job in an exponentially weighted mean: about the last six jobs count."""


def after_job(before: Speed | None, audio_secs: float, secs: float) -> Speed:
    """Return the speed after a job of `audio_secs` seconds of audio, above 0, that took `secs` seconds on the engine."""
    factor = secs / audio_secs
    if before is None:
        return Speed(real_time_factor=factor, audio_secs=audio_secs)
    return Speed(
        real_time_factor=before.real_time_factor + WEIGHT_OF_NEWEST * (factor - before.real_time_factor),
        audio_secs=before.audio_secs + WEIGHT_OF_NEWEST * (audio_secs - before.audio_secs),
    )
