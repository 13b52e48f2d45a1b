"""What is done with a message that is no job, or that nothing can be done with: it must not come round again."""

import logging
from datetime import UTC, datetime

from broker.work_queue import Delivery
from gpu_worker.services import Services
from schemas.errors import ErrorCode, RequestError
from schemas.events import Invalid
from schemas.jobs import JobRequest
from schemas.subjects import is_job_id
from schemas.submission import parse_request

log = logging.getLogger(__name__)


def request_of(delivery: Delivery) -> JobRequest:
    """The request that a message carries. Raises RequestError."""
    if not is_job_id(delivery.job_id):
        raise RequestError(ErrorCode.INVALID_REQUEST, "A job id is 1 to 64 of A-Z a-z 0-9 - _.")
    return parse_request(delivery.body)


async def bury(delivery: Delivery, services: Services, error: RequestError) -> None:
    """Keep the message with the reason, tell whoever waits for the job, and never see it again.

    Safe to repeat. Raises Unavailable.
    """
    log.warning("job %r: unusable submission: %s", delivery.job_id, error.detail)
    letter_id = f"submit {delivery.seq}"
    await services.dead.add(delivery.subject, delivery.body, f"{error.code}: {error.detail}", letter_id)
    if is_job_id(delivery.job_id):
        event = Invalid(
            job_id=delivery.job_id,
            at=datetime.now(UTC),
            code=error.code,
            message=error.detail,
            field=error.field,
        )
        await services.events.append_invalid(event, letter_id)
    await delivery.discard()
