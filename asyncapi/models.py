"""Channels of the models of workers: events and requests."""

from asyncapi.channel import Channel
from schemas import subjects
from schemas.model import ModelEvent, ModelStatus, UnloadRequest

WORKER_ID = {"worker_id": {"description": "As told in the model's status"}}


def channels() -> list[Channel]:
    """Return the channels of models."""
    return [_events(), *_requests()]


def _events() -> Channel:
    return Channel(
        name="modelEvent",
        address=subjects.model_event("{worker_id}", "{type}"),
        body=ModelEvent,
        by="gpu_worker",
        to="gateway, clients",
        summary="A worker's model has come into another state",
        parameters={**WORKER_ID, "type": {"description": "`model_` and the state"}},
        stream=subjects.EVENTS_STREAM,
    )


def _requests() -> list[Channel]:
    """Each action twice: to any worker, and to one of them."""
    actions: tuple[tuple[str, type | None], ...] = (
        ("status", None),
        ("load", None),
        ("unload", UnloadRequest),
    )
    targets: tuple[tuple[str | None, str], ...] = ((None, ""), ("{worker_id}", "OfWorker"))
    return [
        Channel(
            name=f"{action}Model{suffix}",
            address=subjects.model_control(action, worker),
            body=body,
            by="clients, gateway",
            to="gpu_worker (micro service whisper-model)",
            summary=f"{action.capitalize()}: the model's status, without waiting for what becomes of it",
            parameters=WORKER_ID if worker else {},
            reply=ModelStatus,
        )
        for action, body in actions
        for worker, suffix in targets
    ]
