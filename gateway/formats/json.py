"""A job as JSON: the struct schemas.jobs.Job. Pure."""

import msgspec

from schemas.jobs import Job


def render(job: Job) -> bytes:
    """Return the job with everything that is known of it."""
    return msgspec.json.encode(job)
