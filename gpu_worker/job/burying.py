"""Messages in the work queue that are no usable jobs: they become dead letters, so that they are never delivered again."""

import logging
from datetime import UTC, datetime

from broker.dead_letters import DeadLetters
from broker.event_log import EventLog
from broker.work_queue import Delivery
from schemas.errors import ErrorCode, RequestError
from schemas.events import Invalid
from schemas.jobs import JobRequest
from schemas.subjects import is_job_id
from schemas.submission import parse_request

log = logging.getLogger(__name__)


def request_of(delivery: Delivery) -> JobRequest:
    """Return the request that a message carries. Raises RequestError."""
    if not is_job_id(delivery.job_id):
        raise RequestError(ErrorCode.INVALID_REQUEST, "A job id is 1 to 64 of A-Z a-z 0-9 - _.")
    return parse_request(delivery.body)


async def bury(delivery: Delivery, dead: DeadLetters, events: EventLog, error: RequestError) -> None:
    """Keep the message as a dead letter with the reason, publish `invalid` for its job id, and remove it from the queue.

    Safe to repeat. Raises BrokerError.
    """
    log.warning("job %r: unusable submission: %s", delivery.job_id, error.detail)
    letter_id = f"submit {delivery.seq}"
    await dead.add(delivery.subject, delivery.body, f"{error.code}: {error.detail}", letter_id)
    if is_job_id(delivery.job_id):
        event = Invalid(
            job_id=delivery.job_id,
            at=datetime.now(UTC),
            code=error.code,
            message=error.detail,
            field=error.field,
        )
        await events.append_invalid(event, letter_id)
    await delivery.discard()
