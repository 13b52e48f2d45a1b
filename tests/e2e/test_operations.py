"""docs/operations.md, line by line: each `nats` command by the API calls that the command makes.

The command itself cannot be installed here. What it calls is in its source and in NATS's ADRs (1, 8, 20, 32); a line
that has no counterpart here fails the test.
"""

import asyncio
import functools
import json
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from tests.support.http import AUDIO
from tests.support.nats_process import NatsProcess
from tests.support.system import System

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "operations.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if line.startswith("nats ")]
CHUNK = 128 * 1024


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


class Operator:
    """What the `nats` command does, by the same requests."""

    def __init__(self, client: Client, elsewhere: Client) -> None:
        self.client, self.elsewhere, self.backups = (
            client,
            elsewhere,
            dict[str, tuple[dict[str, Any], list[bytes]]](),
        )

    async def api(self, subject: str, body: object = None, client: Client | None = None) -> dict[str, Any]:
        data = b"" if body is None else json.dumps(body).encode()
        answer = await (client or self.client).request(f"$JS.API.{subject}", data, timeout=10)
        found = dict(json.loads(answer.data))
        assert "error" not in found, found
        return found

    async def stream_info(self, stream: str) -> None:
        assert (await self.api(f"STREAM.INFO.{stream}"))["config"]["name"] == stream

    async def stream_subjects(self, stream: str) -> None:
        await self.api(f"STREAM.INFO.{stream}", {"subjects_filter": ">"})

    async def consumer_info(self, stream: str, consumer: str) -> None:
        info = await self.api(f"CONSUMER.INFO.{stream}.{consumer}")
        assert {"num_ack_pending", "num_pending"} <= set(info)

    async def req(self, subject: str, body: str) -> None:
        answer = await self.client.request(subject, body.encode(), timeout=10)
        assert "Nats-Service-Error" not in (answer.headers or {}), answer.headers
        json.loads(answer.data)

    async def micro(self, verb: str, name: str = "") -> None:
        subject = {"ls": "$SRV.PING", "info": f"$SRV.INFO.{name}", "stats": f"$SRV.STATS.{name}"}[verb]
        found = json.loads((await self.client.request(subject, b"", timeout=10)).data)
        assert found["name"] in ("whisper-model", "whisper-jobs")

    async def kv_ls(self, bucket: str) -> None:
        info = await self.api(f"STREAM.INFO.KV_{bucket}", {"subjects_filter": ">"})
        assert len(info["state"]["subjects"]) == 1

    async def object_put(self, bucket: str, file: str, _name: str, name: str) -> None:
        assert file == "talk.mp3"
        store = await self.client.jetstream().object_store(bucket)
        await store.put(name, (AUDIO / "english.mp3").read_bytes())

    async def object_ls(self, bucket: str) -> None:
        await self.api(f"STREAM.INFO.OBJ_{bucket}")

    async def pub(self, subject: str, body: str, *header: str) -> None:
        headers = dict([header[1].split(":")]) if header else None
        await self.client.jetstream().publish(subject, body.encode(), headers=headers)

    async def sub(self, _stream: str, stream: str, subject: str) -> None:
        """Until the job has ended, or the model has come to rest."""
        js = self.client.jetstream()
        sub = await js.subscribe(subject, stream=stream, ordered_consumer=True)
        while True:
            kind = (await sub.next_msg(timeout=30)).subject.rsplit(".", 1)[1]
            if kind in ("done", "model_unloaded"):
                break
        await sub.unsubscribe()

    async def consumer_pause(self, stream: str, consumer: str, duration: str) -> None:
        assert duration == "1h"
        until = datetime.now(UTC) + timedelta(hours=1)
        body = {"pause_until": until.isoformat().replace("+00:00", "Z")}
        assert (await self.api(f"CONSUMER.PAUSE.{stream}.{consumer}", body))["paused"]
        await self.queue("paused", b"{}")
        info = await self.api(f"CONSUMER.INFO.{stream}.{consumer}")
        assert (info["num_pending"], info["num_ack_pending"]) == (1, 0)

    async def consumer_resume(self, stream: str, consumer: str) -> None:
        answer = await self.api(f"CONSUMER.PAUSE.{stream}.{consumer}", {})
        assert not answer["paused"]
        await self.sub("--stream", "WHISPER_EVENTS", "whisper.events.job.paused.>")

    async def stream_view(self, stream: str) -> None:
        sub = await self.client.jetstream().subscribe("whisper.dead.>", stream=stream, ordered_consumer=True)
        assert (await sub.next_msg(timeout=10)).headers
        await sub.unsubscribe()

    async def stream_get(self, stream: str, seq: str) -> None:
        message = await self.client.jetstream().get_msg(stream, int(seq))
        assert "klingon" in (message.headers or {})["Whisper-Reason"]

    async def stream_rmm(self, stream: str, seq: str) -> None:
        assert (await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": int(seq)}))["success"]

    async def stream_backup(self, stream: str, folder: str) -> None:
        """ADR-1's snapshot: chunks to a subject of ours, each acknowledged, an empty one at the end."""
        inbox = self.client.new_inbox()
        sub = await self.client.subscribe(inbox)
        body = {"deliver_subject": inbox, "chunk_size": CHUNK}
        about = await self.api(f"STREAM.SNAPSHOT.{stream}", body)
        chunks: list[bytes] = []
        while (message := await sub.next_msg(timeout=10)).data:
            chunks.append(message.data)
            if message.reply:
                await message.respond(b"")
        await sub.unsubscribe()
        assert chunks
        self.backups[folder] = ({"config": about["config"], "state": about["state"]}, chunks)

    async def stream_restore(self, folder: str) -> None:
        """Into another server, which has nothing."""
        about, chunks = self.backups[folder]
        name = about["config"]["name"]
        answer = await self.api(f"STREAM.RESTORE.{name}", about, self.elsewhere)
        for chunk in chunks:
            await self.elsewhere.request(answer["deliver_subject"], chunk, timeout=10)
        done = json.loads((await self.elsewhere.request(answer["deliver_subject"], b"", timeout=10)).data)
        assert done["state"]["messages"] == about["state"]["messages"] > 0

    async def queue(self, job_id: str, body: bytes) -> None:
        """A job as any publisher makes it."""
        store = await self.client.jetstream().object_store("WHISPER_AUDIO")
        await store.put(job_id, (AUDIO / "telephone.wav").read_bytes())
        await self.client.jetstream().publish(f"whisper.jobs.submit.{job_id}", body)


async def before_cancel(operator: Operator) -> None:
    """A job that is there to be cancelled: its worker is kept from it until then."""
    until = (datetime.now(UTC) + timedelta(minutes=1)).isoformat().replace("+00:00", "Z")
    await operator.api("CONSUMER.PAUSE.WHISPER_JOBS.gpu-worker", {"pause_until": until})
    await operator.queue("day2", b"{}")


async def after_cancel(operator: Operator) -> None:
    await operator.api("CONSUMER.PAUSE.WHISPER_JOBS.gpu-worker", {})


async def before_dead_letters(operator: Operator) -> None:
    told = await operator.client.subscribe("whisper.events.job.day3.invalid")
    await operator.queue("day3", b'{"options": {"language": "klingon"}}')
    await told.next_msg(timeout=10)
    async with asyncio.timeout(10):  # a moment later the submission is out of the queue
        while (await operator.api("STREAM.INFO.WHISPER_JOBS"))["state"]["messages"]:
            await asyncio.sleep(0.02)


BEFORE: dict[str, Callable[[Operator], Awaitable[None]]] = {
    "nats req whisper.jobs.cancel": before_cancel,
    "nats req whisper.jobs.erase": after_cancel,
    "nats stream view WHISPER_DEAD": before_dead_letters,
}
"""What must have happened before a line makes sense."""


def command(operator: Operator, line: str) -> Callable[..., Awaitable[None]] | None:
    """The counterpart of a line, with its arguments bound."""
    _, first, *rest = words(line)
    alone = getattr(operator, first, None)
    if alone is not None:
        return functools.partial(alone, *rest)
    of_two = getattr(operator, f"{first}_{rest[0]}", None) if rest else None
    return None if of_two is None else functools.partial(of_two, *rest[1:])


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[Client]:
    process = NatsProcess(tmp_path / "elsewhere")
    process.start()
    client = await nats.connect(process.url)
    yield client
    await client.close()
    process.stop()


@pytest.mark.parametrize("line", LINES)
def test_every_line_has_its_counterpart(line: str) -> None:
    assert command(Operator(Client(), Client()), line) is not None


async def test_an_operators_day(system: System, elsewhere: Client) -> None:
    await asyncio.to_thread(system.gateway)
    client = await nats.connect(system.nats.url)
    started = await client.subscribe("whisper.events.model.>")
    system.worker()
    await started.next_msg(timeout=20)
    operator = Operator(client, elsewhere)
    assert len(LINES) > 20
    try:
        for line in LINES:
            for prefix, prepare in BEFORE.items():
                if line.startswith(prefix):
                    await prepare(operator)
            run = command(operator, line)
            assert run is not None, line
            try:
                await run()
            except Exception as error:
                raise AssertionError(line) from error
    finally:
        await client.close()
