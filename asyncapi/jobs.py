"""Channels of jobs: submission, requests, events."""

from nats.js.api import Header

from asyncapi.channel import Channel
from schemas import subjects
from schemas.events import JOB_EVENTS, JobCancelled, event_type
from schemas.jobs import JobList, JobReply, JobRequest

JOB_ID = {"job_id": {"description": "1 to 64 of A-Z a-z 0-9 - _"}}
DOOR = "gateway (micro service whisper-jobs)"


def channels() -> list[Channel]:
    """Return the channels of jobs."""
    return [_submit(), *_requests(), _queued(), *_events()]


def _submit() -> Channel:
    return Channel(
        name="submit",
        address=subjects.submit("{job_id}"),
        body=JobRequest,
        by="clients, gateway",
        to="gpu_worker (consumer gpu-worker)",
        summary="This one publish is the submission; its audio is in the bucket already",
        parameters=JOB_ID,
        stream=subjects.JOBS_STREAM,
        headers={str(Header.MSG_ID.value): "The job id, so that a publish that is tried again is one job"},
    )


def _requests() -> list[Channel]:
    actions: tuple[tuple[str, str, type | None], ...] = (
        ("get", "The job with its transcript so far", JobReply),
        ("cancel", "End a job that has not ended", JobReply),
        ("erase", "Remove everything that is known of an ended job", None),
    )
    about_one = [
        Channel(
            name=f"{action}Job",
            address=subjects.job_control(action, "{job_id}"),
            by="clients",
            to=DOOR,
            summary=summary,
            parameters=JOB_ID,
            reply=reply,
        )
        for action, summary, reply in actions
    ]
    listing = Channel(
        name="listJobs",
        address=subjects.job_control("list"),
        by="clients",
        to=DOOR,
        summary="Newest first. Body: an object with limit, cursor, status, created_after, as over HTTP",
        reply=JobList,
    )
    return [*about_one, listing]


def _queued() -> Channel:
    return Channel(
        name="jobQueued",
        address=subjects.event("{job_id}", subjects.QUEUED),
        body=JobRequest,
        by="nats-server (republish of the submission)",
        to="gateway, clients",
        summary="The submission is stored",
        parameters=JOB_ID,
        stream=subjects.EVENTS_STREAM,
    )


def _events() -> list[Channel]:
    """One channel for each event that our processes publish."""
    return [
        Channel(
            name=f"job{event_type(kind).capitalize()}",
            address=subjects.event("{job_id}", event_type(kind)),
            body=kind,
            by="gpu_worker, gateway" if kind is JobCancelled else "gpu_worker",
            to="gateway, clients",
            summary=" ".join((kind.__doc__ or f"The job is {event_type(kind)}.").split()),
            parameters=JOB_ID,
            stream=subjects.EVENTS_STREAM,
        )
        for kind in JOB_EVENTS
    ]
