"""The model of a worker, controlled from outside: status, load, unload."""

from datetime import UTC, datetime

from nats.aio.client import Client

from broker.model_control import ModelRefused, NoWorker, request_model
from broker.worker_status import WorkerStatuses
from gateway.admission import MENDING_SECS, nearest_first
from schemas import subjects
from schemas.errors import ErrorCode, RequestError
from schemas.model import ModelState, ModelStatus


class ModelOperations:
    """Asks workers about their model. A `worker_id` of None means the worker that is nearest to working."""

    def __init__(self, client: Client, statuses: WorkerStatuses) -> None:
        self._client, self._statuses = client, statuses

    async def nearest(self) -> ModelStatus:
        """Return the last published status of the nearest worker; `offline` where none is alive. Raises Unavailable."""
        ranked = nearest_first(await self._statuses.alive())
        return ranked[0].model if ranked else _offline()

    async def status(self, worker_id: str | None) -> ModelStatus:
        """Return the status as it is now; `offline` where no worker answers. Raises RequestError, Unavailable."""
        try:
            return await self._ask("status", worker_id)
        except NoWorker:
            return _offline()

    async def load(self, worker_id: str | None) -> ModelStatus:
        """Ask for the model, without waiting for it. Raises RequestError, Unavailable."""
        return await self._command("load", worker_id)

    async def unload(self, worker_id: str | None, *, force: bool) -> ModelStatus:
        """Ask for the GPU back; with `force` also from under a job. Raises RequestError `job_running`, Unavailable."""
        return await self._command("unload", worker_id, force=force)

    async def _command(self, action: str, worker_id: str | None, *, force: bool = False) -> ModelStatus:
        try:
            return await self._ask(action, worker_id, force=force)
        except NoWorker as error:
            detail = "No worker is running."
            raise RequestError(ErrorCode.MODEL_NOT_READY, detail, retry_after=MENDING_SECS) from error
        except ModelRefused as error:
            raise RequestError(ErrorCode.JOB_RUNNING, str(error)) from error

    async def _ask(self, action: str, worker_id: str | None, *, force: bool = False) -> ModelStatus:
        """Send a request to one worker, or to the nearest that answers. Raises NoWorker, ModelRefused, RequestError.

        A worker that was killed is in the list for some seconds more, so that the next one has to be asked.
        """
        # A worker id becomes a token of a subject, as a job id does.
        if worker_id and not subjects.is_job_id(worker_id):
            detail = "worker_id must be the id of a worker."
            raise RequestError(ErrorCode.INVALID_OPTION, detail, "worker_id")
        workers = (
            [worker_id] if worker_id else [w.worker_id for w in nearest_first(await self._statuses.alive())]
        )
        for candidate in workers:
            try:
                return await request_model(self._client, action, candidate, force=force)
            except NoWorker:
                continue
        raise NoWorker("no worker answers")


def _offline() -> ModelStatus:
    return ModelStatus(state=ModelState.OFFLINE, since=datetime.now(UTC))
