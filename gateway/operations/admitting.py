"""Whether a job is taken now: asks what workers there are, and asks for a load where none is ready."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from nats.aio.client import Client

from broker.errors import BrokerError
from broker.model_control import request_model
from broker.worker_status import WorkerStatuses
from gateway.admission import JobsWhenUnloaded, prefers_async, refusal
from schemas.errors import RequestError

log = logging.getLogger(__name__)


class Admission:
    """Decides on each submission before its body is read."""

    def __init__(self, client: Client, statuses: WorkerStatuses, when_unloaded: JobsWhenUnloaded) -> None:
        self._client, self._statuses, self._when_unloaded = client, statuses, when_unloaded

    async def admit(self, prefer: str | None) -> Mapping[str, str]:
        """Return the headers that the answer must have. `prefer` is the request's Prefer header.

        Raises RequestError where the job would have to wait for a model and the client has not asked for that; Unavailable.
        """
        if prefers_async(prefer):
            return {"Preference-Applied": "respond-async"}
        if self._when_unloaded is JobsWhenUnloaded.QUEUE:
            return {}
        why = refusal(await self._statuses.alive(), datetime.now(UTC))
        if why is None:
            return {}
        if why.load:
            try:
                await request_model(self._client, "load")
            except BrokerError as error:
                # The client is asked to come back in any case.
                log.warning("no load could be asked for: %s", error)
        raise RequestError(why.code, why.detail, retry_after=why.retry_after)
