"""/model: see the model, load it, hand the GPU back, follow what happens to it."""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from quart import Blueprint, Response, request

from broker.errors import BrokerError
from broker.event_log import Logged
from broker.model_control import ModelRefused, NoWorker, request_model
from gateway.admission import MENDING_SECS, nearest_first
from gateway.http.responses import event_stream, is_true, json_response, resume_after
from gateway.services import Services
from gateway.streaming import sse
from gateway.streaming.fanout import StreamOver
from schemas import subjects
from schemas.errors import ErrorCode, RequestError
from schemas.inputs import Unreadable
from schemas.model import ModelState, ModelStatus

log = logging.getLogger(__name__)


def blueprint(services: Services) -> Blueprint:
    models = Blueprint("models", __name__)

    @models.get("/model/status")
    async def status() -> Response:
        try:
            found = await ask(services, "status")
        except NoWorker:
            found = offline()
        return json_response(found)

    @models.post("/model/load")
    async def load() -> Response:
        found = await command(services, "load")
        return json_response(found, 200 if found.state is ModelState.READY else 202)

    @models.post("/model/unload")
    async def unload() -> Response:
        found = await command(services, "unload", force=is_true(request.args.get("force")))
        return json_response(found, 200 if found.state is ModelState.UNLOADED else 202)

    @models.get("/model/events")
    async def events() -> Response:
        return event_stream(follow(services, resume_after()))

    return models


async def ask(services: Services, action: str, *, force: bool = False) -> ModelStatus:
    """Ask the worker named in the query, else the one that is nearest to working. Raises NoWorker, ModelRefused.

    A worker that was killed is in the list for some seconds more: then the next is asked.
    """
    named = request.args.get("worker_id")
    if named and not subjects.is_job_id(named):  # the same letters: it becomes a part of a subject
        raise RequestError(ErrorCode.INVALID_OPTION, "worker_id must be the id of a worker.", "worker_id")
    workers = [named] if named else [w.worker_id for w in nearest_first(await services.statuses.alive())]
    for worker_id in workers:
        try:
            return await request_model(services.client, action, worker_id, force=force)
        except NoWorker:
            continue
    raise NoWorker("no worker answers")


async def command(services: Services, action: str, *, force: bool = False) -> ModelStatus:
    """Raises RequestError."""
    try:
        return await ask(services, action, force=force)
    except NoWorker as error:
        detail = "No worker is running."
        raise RequestError(ErrorCode.MODEL_NOT_READY, detail, retry_after=MENDING_SECS) from error
    except ModelRefused as error:
        raise RequestError(ErrorCode.JOB_RUNNING, str(error)) from error


async def follow(services: Services, after: int) -> AsyncIterator[bytes]:
    """The events behind `after`, then those to come, without end. Who does not resume is told the state first."""
    try:
        async with services.fanout.listening(subjects.MODEL_EVENTS_PREFIX) as listener:
            after = await services.events.resume_point(subjects.MODEL_EVENTS_PREFIX, after)
            if after:
                async for logged in services.events.replay(subjects.ALL_MODEL_EVENTS, after):
                    after = logged.seq
                    if (frame := _frame(logged)) is not None:
                        yield frame
            else:
                ranked = nearest_first(await services.statuses.alive())
                yield sse.model_status(ranked[0].model if ranked else offline())
            while True:
                live = await listener.next(services.settings.sse_heartbeat_secs)
                if live is None:
                    yield sse.HEARTBEAT
                elif live.seq > after and (frame := _frame(live)) is not None:
                    yield frame
    except StreamOver:
        return
    except BrokerError as error:
        log.info("a stream of model events is cut, its client may resume: %s", error)


def _frame(logged: Logged) -> bytes | None:
    """None for what no client can be told."""
    try:
        return sse.model_event(logged.body, logged.seq)
    except Unreadable as error:
        log.warning("event %d on %s cannot be read and is passed over: %s", logged.seq, logged.subject, error)
        return None


def offline() -> ModelStatus:
    """What is told where no worker is alive."""
    return ModelStatus(state=ModelState.OFFLINE, since=datetime.now(UTC))
