"""The operations on jobs as a NATS micro service: `nats req whisper.jobs.get.<id> ''`, `.cancel.<id>`, `.list`.

Each subject calls the same operation as the HTTP route. Gateways share the subjects, so that one of them answers.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import nats.errors
import nats.micro
from nats.aio.client import Client
from nats.micro.request import Request
from nats.micro.service import ServiceConfig

from broker.connection import goodbye
from broker.errors import BrokerError
from broker.micro import answer, refuse
from broker.object_reading import digest_text
from broker.object_store import ObjectStore
from gateway.operations.broker_problem import broker_problem
from gateway.operations.jobs import JobOperations
from gateway.operations.listing import fitting, parse_query
from schemas.errors import ErrorCode, RequestError
from schemas.inputs import LIST_REQUEST, Unreadable
from schemas.jobs import Job, JobReply
from schemas.subjects import job_control, last_token
from schemas.version import VERSION

log = logging.getLogger(__name__)

SERVICE_NAME = "whisper-jobs"
AT_ONCE = 64
"""How many requests are answered at a time."""
HEADROOM_BYTES = 4096
"""What headers may take of the server's largest payload."""

Handler = Callable[[Request], Awaitable[None]]


class NatsDoor:
    """Answers requests on `whisper.jobs.>`.

    Refusals are errors of the micro protocol (NATS ADR-32); their body is the problem that HTTP would answer with.
    """

    def __init__(self, client: Client, jobs: JobOperations, results: ObjectStore) -> None:
        """`results` keeps jobs that are too large for a reply."""
        self._client, self._jobs, self._results = client, jobs, results

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer while the block runs."""
        config = ServiceConfig(
            name=SERVICE_NAME, version=VERSION, description="Read, list, cancel and erase jobs"
        )
        endpoints: dict[str, tuple[str, Handler]] = {
            "list": (job_control("list"), self._list),
            "get": (job_control("get", "*"), self._get),
            "cancel": (job_control("cancel", "*"), self._cancel),
            "erase": (job_control("erase", "*"), self._erase),
        }
        service = await nats.micro.add_service(self._client, config)
        async with asyncio.TaskGroup() as tasks:
            answering = _Answering(tasks)
            try:
                for name, (subject, handler) in endpoints.items():
                    await service.add_endpoint(name=name, subject=subject, handler=answering(handler))
                yield
            finally:
                async with goodbye(f"stop {SERVICE_NAME}"):
                    await service.stop()

    async def _get(self, request: Request) -> None:
        await self._reply(request, await self._jobs.read(last_token(request.subject)))

    async def _cancel(self, request: Request) -> None:
        await self._reply(request, await self._jobs.cancel(last_token(request.subject)))

    async def _erase(self, request: Request) -> None:
        await self._jobs.erase(last_token(request.subject))
        await answer(request, b"{}")

    async def _list(self, request: Request) -> None:
        try:
            given = LIST_REQUEST.read(request.data or b"{}")
        except Unreadable as error:
            detail = f"The filters are no JSON object: {error}."
            raise RequestError(ErrorCode.INVALID_REQUEST, detail) from error
        found = fitting(await self._jobs.list(parse_query(given)), self._room())
        await answer(request, msgspec.json.encode(found))

    def _room(self) -> int:
        """Return how many bytes a reply may have."""
        return self._client.max_payload - HEADROOM_BYTES

    async def _reply(self, request: Request, job: Job) -> None:
        """Answer with a job. One that is too large for a message is stored as an object, and the reply names that."""
        body = msgspec.json.encode(JobReply(job=job))
        if len(body) > self._room():
            whole = msgspec.json.encode(job)

            async def pieces() -> AsyncIterator[bytes]:
                yield whole

            # It is written only where it has changed. The old chunks stay for others who may be reading them, and are
            # deleted later by gateway/sweep.py.
            if await self._results.digest(job.id) != digest_text(hashlib.sha256(whole)):
                await self._results.put(job.id, pieces())
            without = msgspec.structs.replace(job, segments=[])
            body = msgspec.json.encode(JobReply(job=without, result=job.id))
        await answer(request, body)


class _Answering:
    """Runs handlers as tasks, so that no request waits for the one before, and answers whatever goes wrong.

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
            except Exception:
                # One request must not end the gateway, whatever is in it.
                log.exception("%s failed unexpectedly", request.subject)
                await _refuse(
                    request, RequestError(ErrorCode.INTERNAL, "An unexpected error; the log has it.")
                )
        except (nats.errors.Error, OSError) as error:
            log.warning("%s could not be answered: %s", request.subject, error)


async def _refuse(request: Request, error: RequestError) -> None:
    problem = error.problem()
    await refuse(request, problem.status, problem.detail, msgspec.json.encode(problem))
