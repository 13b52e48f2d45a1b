"""/jobs: submit, read, follow, cancel, list."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from quart import Blueprint, Response, request

from gateway import sse
from gateway.problems import json_response
from gateway.services import Services
from gateway.upload import boundary, receive
from schemas.errors import ErrorCode, RequestError
from schemas.jobs import JobAccepted, JobList, request_from_form, to_job

LIST_DEFAULT, LIST_MAX = 50, 500
EVENT_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def blueprint(services: Services) -> Blueprint:
    jobs = Blueprint("jobs", __name__)

    @jobs.post("/jobs")
    async def submit() -> Response:
        job_id = uuid.uuid4().hex
        await submit_upload(services, job_id)
        return json_response(JobAccepted(job_id=job_id), 202, {"Location": f"/jobs/{job_id}"})

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
        after = sse.last_event_id(request.headers.get("Last-Event-ID") or request.args.get("last_event_id"))
        stream = services.stream(record, after)
        response = Response(stream, headers=EVENT_STREAM_HEADERS, content_type="text/event-stream")
        response.timeout = None
        return response

    @jobs.delete("/jobs/<job_id>")
    async def cancel(job_id: str) -> Response:
        return json_response(await services.job(await services.cancel(job_id)))

    return jobs


async def submit_upload(services: Services, job_id: str) -> None:
    """Stream the request's audio into the store, then publish the job. If anything fails, no audio stays."""
    content_type, created_at = request.headers.get("Content-Type", ""), datetime.now(UTC)
    boundary(content_type)  # refused before the body is read
    stored = False

    async def store(fields: dict[str, str], filename: str | None, audio: AsyncIterator[bytes]) -> None:
        nonlocal stored
        request_from_form(fields, filename, created_at)  # what is known already is checked before the upload
        await services.audio.put(job_id, audio)
        stored = True

    try:
        upload = await receive(request.body, content_type, store)
        await services.queue.submit(job_id, request_from_form(upload.fields, upload.filename, created_at))
    except BaseException:
        if stored:
            await services.audio.delete(job_id)
        raise
