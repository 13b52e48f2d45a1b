"""/jobs: submit, read, follow, cancel, erase, list."""

from quart import Blueprint, Response, request

from gateway.formats.registry import negotiate
from gateway.http.responses import event_stream, is_true, json_response, resume_after
from gateway.operations.held_key import KEY_HEADER
from gateway.operations.jobs import JobOperations
from gateway.operations.listing import parse_query
from gateway.operations.submission import Submission
from gateway.streaming.job_streams import JobStreams
from gateway.upload.kind import check_body
from gateway.upload.query import options_of
from gateway.upload.receiving import Incoming
from schemas.jobs import JobAccepted


def blueprint(submission: Submission, jobs: JobOperations, streams: JobStreams) -> Blueprint:
    """Return the routes under /jobs."""
    routes = Blueprint("jobs", __name__)

    @routes.post("/jobs")
    async def post() -> Response:
        content_type = request.headers.get("Content-Type", "")
        # What can be refused by its headers and its query is refused before anything else is looked at.
        check_body(content_type, ",".join(request.headers.getlist("Content-Encoding")))
        incoming = Incoming(
            content_type=content_type,
            content_length=request.content_length,
            body=request.body,
            query=options_of(request.query_string),
            disposition=request.headers.get("Content-Disposition", ""),
        )
        key, prefer = request.headers.get(KEY_HEADER), request.headers.get("Prefer")
        accepted = await submission.submit(incoming, prefer=prefer, key=key)
        headers = {"Location": f"/jobs/{accepted.job_id}", **accepted.headers}
        return json_response(JobAccepted(job_id=accepted.job_id), 202 if accepted.is_new else 200, headers)

    @routes.get("/jobs")
    async def list_jobs() -> Response:
        return json_response(await jobs.list(parse_query(request.args.to_dict())))

    @routes.get("/jobs/<job_id>")
    async def read(job_id: str) -> Response:
        form = negotiate(request.headers.get("Accept"))
        return Response(form.render(await jobs.read(job_id)), content_type=form.media_type)

    @routes.get("/jobs/<job_id>/stream")
    async def follow(job_id: str) -> Response:
        record = await jobs.record(job_id)
        after = await streams.resume_point(record, resume_after())
        if await streams.is_over(record, after):
            # This status keeps an EventSource from coming back.
            return Response(status=204)
        return event_stream(streams.frames(record, after))

    @routes.delete("/jobs/<job_id>")
    async def delete(job_id: str) -> Response:
        if is_true(request.args.get("erase")):
            await jobs.erase(job_id)
            return Response(status=204)
        return json_response(await jobs.cancel(job_id))

    return routes
