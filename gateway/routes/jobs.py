"""/jobs: submit, read, follow, cancel, list."""

from quart import Blueprint, Response, request

from gateway.http.responses import event_stream, is_true, json_response, resume_after
from gateway.operations.listing import parse_query
from gateway.operations.submission import submit
from gateway.services import Services
from schemas.jobs import JobAccepted


def blueprint(services: Services) -> Blueprint:
    jobs = Blueprint("jobs", __name__)

    @jobs.post("/jobs")
    async def post() -> Response:
        accepted = await submit(services, request)
        headers = {"Location": f"/jobs/{accepted.job_id}", **accepted.headers}
        return json_response(JobAccepted(job_id=accepted.job_id), 202 if accepted.is_new else 200, headers)

    @jobs.get("/jobs")
    async def list_jobs() -> Response:
        return json_response(await services.jobs.list(parse_query(request.args.to_dict())))

    @jobs.get("/jobs/<job_id>")
    async def read(job_id: str) -> Response:
        return json_response(await services.jobs.job(await services.jobs.record(job_id)))

    @jobs.get("/jobs/<job_id>/stream")
    async def follow(job_id: str) -> Response:
        record = await services.jobs.record(job_id)
        after = await services.streams.resume_point(record, resume_after())
        if await services.streams.is_over(record, after):
            return Response(status=204)  # which tells an EventSource not to come back
        return event_stream(services.streams.frames(record, after))

    @jobs.delete("/jobs/<job_id>")
    async def delete(job_id: str) -> Response:
        if is_true(request.args.get("erase")):
            await services.jobs.erase(job_id)
            return Response(status=204)
        return json_response(await services.jobs.job(await services.jobs.cancel(job_id)))

    return jobs
