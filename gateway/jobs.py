"""/jobs: submit, read, follow, cancel, list."""

import logging
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from quart import Blueprint, Response, request

from broker.errors import BrokerError
from broker.model_control import request_model
from gateway.responses import event_stream, json_response, resume_after
from gateway.services import Services
from gateway.upload import boundary, receive
from gateway.webhooks.sender import webhook_of
from gateway.workers import JobsWhenUnloaded, prefers_async, refusal
from schemas.errors import ErrorCode, RequestError
from schemas.jobs import JobAccepted, JobList, request_from_form, to_job

LIST_DEFAULT, LIST_MAX = 50, 500

log = logging.getLogger(__name__)


def blueprint(services: Services) -> Blueprint:
    jobs = Blueprint("jobs", __name__)

    @jobs.post("/jobs")
    async def submit() -> Response:
        boundary(request.headers.get("Content-Type", ""))  # both refused before the body is read
        applied = await admit(services)
        job_id = uuid.uuid4().hex
        await submit_upload(services, job_id)
        return json_response(JobAccepted(job_id=job_id), 202, {"Location": f"/jobs/{job_id}", **applied})

    @jobs.get("/jobs")
    async def list_jobs() -> Response:
        limit = request.args.get("limit", default=str(LIST_DEFAULT))
        if not limit.isdigit() or not 1 <= int(limit) <= LIST_MAX:
            raise RequestError(ErrorCode.INVALID_OPTION, f"limit must be 1 to {LIST_MAX}.", "limit")
        records = await services.records.newest(int(limit))
        return json_response(JobList(jobs=[to_job(record, []) for record in records]))

    @jobs.get("/jobs/<job_id>")
    async def read(job_id: str) -> Response:
        return json_response(await services.job(await services.record(job_id)))

    @jobs.get("/jobs/<job_id>/stream")
    async def follow(job_id: str) -> Response:
        record = await services.record(job_id)
        return event_stream(services.stream(record, resume_after()))

    @jobs.delete("/jobs/<job_id>")
    async def cancel(job_id: str) -> Response:
        return json_response(await services.job(await services.cancel(job_id)))

    return jobs


async def admit(services: Services) -> dict[str, str]:
    """Refuse a job that must wait for a model, unless it may; the headers to answer with. Raises RequestError."""
    if prefers_async(request.headers.get("Prefer")):
        return {"Preference-Applied": "respond-async"}
    if services.settings.jobs_when_unloaded is JobsWhenUnloaded.QUEUE:
        return {}
    why = refusal(await services.statuses.alive(), datetime.now(UTC))
    if why is None:
        return {}
    if why.load:
        try:
            await request_model(services.client, "load")
        except BrokerError as error:  # the client is told to come back anyway
            log.warning("no load could be asked for: %s", error)
    raise RequestError(why.code, why.detail, retry_after=why.retry_after)


async def submit_upload(services: Services, job_id: str) -> None:
    """Stream the request's audio into the store, then publish the job. If anything fails, no audio stays."""
    content_type, created_at = request.headers.get("Content-Type", ""), datetime.now(UTC)
    stored = False

    async def store(fields: dict[str, str], filename: str | None, audio: AsyncIterator[bytes]) -> None:
        nonlocal stored
        request_from_form(fields, filename, created_at)  # what is known already is checked before the upload
        await services.audio.put(job_id, audio)
        stored = True

    try:
        upload = await receive(request.body, content_type, store)
        job = request_from_form(upload.fields, upload.filename, created_at)
        if (webhook := webhook_of(job)) is not None:
            await services.webhook_urls.register(webhook)
        await services.queue.submit(job_id, job)
    except BaseException:
        if stored:
            await services.audio.delete(job_id)
        raise
