"""The operations on jobs as a NATS micro service: `nats req whisper.jobs.get.<id> ''`, `.cancel.<id>`, `.list`.

Each is what HTTP does, by the same code. Gateways share the subjects, so that one of them answers.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps

import msgspec
import nats.micro
from nats.micro.request import Request
from nats.micro.service import ServiceConfig

from broker.connection import goodbye
from broker.errors import BrokerError
from gateway.listing import parse_query
from gateway.services import Services
from schemas.errors import ErrorCode, RequestError
from schemas.jobs import Job, JobReply
from schemas.subjects import job_control, last_token

log = logging.getLogger(__name__)

SERVICE_NAME = "whisper-jobs"
SERVICE_VERSION = "1.0.0"
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
        await request.respond(b"{}")

    async def list_jobs(request: Request) -> None:
        try:
            given = msgspec.json.decode(request.data or b"{}", type=dict[str, object])
        except msgspec.DecodeError as error:
            raise RequestError(
                ErrorCode.INVALID_REQUEST, f"The filters are no JSON object: {error}."
            ) from error
        await request.respond(msgspec.json.encode(await services.jobs.list(parse_query(given))))

    config = ServiceConfig(
        name=SERVICE_NAME, version=SERVICE_VERSION, description="Read, list, cancel and erase jobs"
    )
    service = await nats.micro.add_service(services.client, config)
    try:
        await service.add_endpoint(name="list", subject=job_control("list"), handler=_answering(list_jobs))
        for name, handler in {"get": get, "cancel": cancel, "erase": erase}.items():
            await service.add_endpoint(name=name, subject=job_control(name, "*"), handler=_answering(handler))
        yield
    finally:
        async with goodbye(f"stop {SERVICE_NAME}"):
            await service.stop()


def _id(request: Request) -> str:
    return last_token(request.subject)


def _answering(handler: Handler) -> Handler:
    """Whatever goes wrong, the caller gets an answer."""

    @wraps(handler)
    async def answering(request: Request) -> None:
        try:
            await handler(request)
        except RequestError as error:
            problem = error.problem()
            await request.respond_error(str(problem.status), error.detail, data=msgspec.json.encode(problem))
        except BrokerError as error:
            log.warning("%s: %s", request.subject, error)
            await request.respond_error("503", "The message broker did not answer; try again.")

    return answering


async def _reply(services: Services, request: Request, job: Job) -> None:
    """A job that is too large for a message is stored as an object, and referenced."""
    body = msgspec.json.encode(JobReply(job=job))
    if len(body) > services.client.max_payload - HEADROOM_BYTES:
        whole = msgspec.json.encode(job)

        async def pieces() -> AsyncIterator[bytes]:
            yield whole

        await services.results.delete(job.id)
        await services.results.put(job.id, pieces())
        without = msgspec.structs.replace(job, segments=[])
        body = msgspec.json.encode(JobReply(job=without, result=job.id))
    await request.respond(body)
