"""The operations on jobs as a NATS micro service: `nats req whisper.jobs.get.<id> ''`, `.cancel.<id>`, `.list`.

Each is what HTTP does, by the same code. Gateways share the subjects, so that one of them answers.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import nats.errors
import nats.micro
from nats.micro.request import Request
from nats.micro.service import ServiceConfig

from broker.connection import goodbye
from broker.errors import BrokerError
from broker.micro import answer, refuse
from broker.object_reading import digest_text
from gateway.http.problems import broker_problem
from gateway.operations.listing import fitting, parse_query
from gateway.services import Services
from schemas.errors import ErrorCode, RequestError
from schemas.inputs import LIST_REQUEST, Unreadable
from schemas.jobs import Job, JobReply
from schemas.subjects import job_control, last_token

log = logging.getLogger(__name__)

SERVICE_NAME = "whisper-jobs"
SERVICE_VERSION = "1.0.0"
AT_ONCE = 64
"""Requests that are answered at a time."""
HEADROOM_BYTES = 4096
"""Of the server's largest payload, for headers."""

Handler = Callable[[Request], Awaitable[None]]


@asynccontextmanager
async def serve_jobs(services: Services) -> AsyncIterator[None]:
    """Answer while inside. Refusals are errors of the micro protocol (ADR-32 of NATS); their body is the problem."""

    async def get(request: Request) -> None:
        await _reply(services, request, await services.jobs.job(await services.jobs.record(_id(request))))

    async def cancel(request: Request) -> None:
        await _reply(services, request, await services.jobs.job(await services.jobs.cancel(_id(request))))

    async def erase(request: Request) -> None:
        await services.jobs.erase(_id(request))
        await answer(request, b"{}")

    async def list_jobs(request: Request) -> None:
        try:
            given = LIST_REQUEST.read(request.data or b"{}")
        except Unreadable as error:
            raise RequestError(
                ErrorCode.INVALID_REQUEST, f"The filters are no JSON object: {error}."
            ) from error
        found = fitting(await services.jobs.list(parse_query(given)), _room(services))
        await answer(request, msgspec.json.encode(found))

    config = ServiceConfig(
        name=SERVICE_NAME, version=SERVICE_VERSION, description="Read, list, cancel and erase jobs"
    )
    service = await nats.micro.add_service(services.client, config)
    async with asyncio.TaskGroup() as tasks:
        answering = _Answering(tasks)
        try:
            await service.add_endpoint(name="list", subject=job_control("list"), handler=answering(list_jobs))
            for name, handler in {"get": get, "cancel": cancel, "erase": erase}.items():
                await service.add_endpoint(
                    name=name, subject=job_control(name, "*"), handler=answering(handler)
                )
            yield
        finally:
            async with goodbye(f"stop {SERVICE_NAME}"):
                await service.stop()


def _id(request: Request) -> str:
    return last_token(request.subject)


class _Answering:
    """Whatever goes wrong, the caller gets an answer; and no request waits for the one before.

    nats-py calls the handler of an endpoint for one request after the other, and an erase may wait for a worker.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks, self._slots = tasks, asyncio.Semaphore(AT_ONCE)

    def __call__(self, handler: Handler) -> Handler:
        async def begin(request: Request) -> None:
            await self._slots.acquire()
            task = self._tasks.create_task(self._answer(handler, request), name=request.subject)
            task.add_done_callback(lambda _task: self._slots.release())

        return begin

    async def _answer(self, handler: Handler, request: Request) -> None:
        try:
            try:
                await handler(request)
            except RequestError as error:
                await _refuse(request, error)
            except BrokerError as error:
                log.warning("%s: %s", request.subject, error)
                await _refuse(request, broker_problem(error))
            except Exception:  # one request must not end the gateway, whatever is in it
                log.exception("%s failed unexpectedly", request.subject)
                await _refuse(
                    request, RequestError(ErrorCode.INTERNAL, "An unexpected error; the log has it.")
                )
        except (nats.errors.Error, OSError) as error:
            log.warning("%s could not be answered: %s", request.subject, error)


async def _refuse(request: Request, error: RequestError) -> None:
    problem = error.problem()
    await refuse(request, problem.status, problem.detail, msgspec.json.encode(problem))


def _room(services: Services) -> int:
    """Bytes that a reply may have."""
    return services.client.max_payload - HEADROOM_BYTES


async def _reply(services: Services, request: Request, job: Job) -> None:
    """A job that is too large for a message is stored as an object, and referenced."""
    body = msgspec.json.encode(JobReply(job=job))
    if len(body) > _room(services):
        whole = msgspec.json.encode(job)

        async def pieces() -> AsyncIterator[bytes]:
            yield whole

        # Written anew only where it has changed, and without removing what others may be reading (gateway/sweep.py does).
        if await services.results.digest(job.id) != digest_text(hashlib.sha256(whole)):
            await services.results.put(job.id, pieces())
        without = msgspec.structs.replace(job, segments=[])
        body = msgspec.json.encode(JobReply(job=without, result=job.id))
    await answer(request, body)
