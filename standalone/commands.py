"""The `whisper-jetstream` command: its arguments, and what each of its words does."""

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from broker.errors import BrokerError
from broker.settings import BrokerSettings
from gpu_worker.blame import Failure
from process.logs import set_up_logging
from schemas.jobs import TranscribeOptions
from schemas.settings import SettingsError
from standalone import bench_report, operator, timeline
from standalone.client import ClientError, GatewayClient
from standalone.errors import StartError
from standalone.models import ModelError
from standalone.terminal import printable, screen, show, transcribe
from standalone.up import claimed, find_model, settings_for, transcribe_one
from standalone.up import up as run_system

EXPECTED = (
    SettingsError, ModelError, ClientError, StartError, BrokerError, FileNotFoundError, Failure,
)  # fmt: skip
"""What a user can mend: told in one line, without a traceback."""
BROKER_SCHEMES = ("nats://", "tls://", "ws://", "wss://")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="whisper-jetstream", description="Audio to text over NATS JetStream.")
    top.add_argument(
        "--url", default=os.environ.get("WHISPER_URL", "http://127.0.0.1:8080"), help="the gateway"
    )
    top.add_argument(
        "--nats-url",
        metavar="URL[,URL...]",
        help="nats-server, for model, dead, health worker and topology (default: NATS_URL, else that of the `up` on DATA_DIR)",
    )
    commands = top.add_subparsers(dest="command", required=True)

    start = commands.add_parser("up", help="start nats-server, worker and gateway; Ctrl-C stops them")
    start.add_argument(
        "--model", help="demo, base.en, large-v3, ...: unpacked or downloaded if it is not there"
    )
    start.add_argument("--audio", type=Path, help="transcribe this file, then stop")
    _add_options(start)

    files = commands.add_parser(
        "transcribe", help="submit files to a running system and print their transcripts"
    )
    files.add_argument("files", nargs="+", type=Path, metavar="FILE")
    files.add_argument("--json", action="store_true", help="print the whole job instead of its text")
    _add_options(files)

    timing = commands.add_parser("timings", help="where the time of finished jobs went")
    timing.add_argument("ids", nargs="+", metavar="ID")
    timing.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw it, one bar for each job")
    bench = commands.add_parser("bench", help="how fast the model is here, and what the service adds to that")
    bench.add_argument("--audio", type=Path, required=True, help="speech of a minute or more is best")
    bench.add_argument("--model", help="as for `up`")
    bench.add_argument("--rounds", type=int, default=3, help="medians of so many rounds (default 3)")
    bench.add_argument("--json", action="store_true", help="print the figures as JSON")
    bench.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw where the time of a job goes")

    commands.add_parser("jobs", help="list jobs, newest first")
    commands.add_parser("cancel", help="cancel a job").add_argument("id")
    model = commands.add_parser("model", help="look at the model, load it, hand the GPU back")
    model.add_argument("action", choices=[*operator.SETTLED, "fetch"])
    model.add_argument("name", nargs="?", help="which to fetch: demo, base.en, large-v3, ...")
    model.add_argument("--force", action="store_true", help="unload also while a job runs: it is put back")
    health = commands.add_parser(
        "health", help="exit status 0 where it is well: for a container's health check"
    )
    health.add_argument("part", nargs="?", choices=["gateway", "worker"], default="gateway")
    dead = commands.add_parser("dead", help="submissions and webhook deliveries that were given up")
    dead.add_argument("action", choices=["list", "requeue"])
    dead.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="which to requeue; default: all")
    shape = commands.add_parser("topology", help="streams, buckets and consumers against today's settings")
    shape.add_argument("action", choices=["diff", "apply"])
    return top


def _add_options(command: argparse.ArgumentParser) -> None:
    for name in TranscribeOptions.__struct_fields__:
        command.add_argument(f"--{name.replace('_', '-')}", dest=f"option_{name}", metavar="VALUE")


def options_of(arguments: argparse.Namespace) -> dict[str, str]:
    """The transcription options that were given, by their form field names."""
    given = {n: getattr(arguments, f"option_{n}", None) for n in TranscribeOptions.__struct_fields__}
    return {name: value for name, value in given.items() if value is not None}


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        return run(arguments)
    except EXPECTED as error:
        sys.stderr.write(f"whisper-jetstream: {error}\n")
        return 1


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says; the exit status."""
    return COMMANDS[arguments.command](arguments) or 0


def jobs(arguments: argparse.Namespace) -> None:
    for job in GatewayClient(arguments.url).jobs():
        print(f"{job['id']}  {job['status']:<9} {job['progress']:>3}%  {printable(job['filename'] or '')}")


def cancel(arguments: argparse.Namespace) -> None:
    print(GatewayClient(arguments.url).cancel(arguments.id)["status"])


def model(arguments: argparse.Namespace) -> None:
    if arguments.action == "fetch":
        print(find_model(settings_for(arguments.name), named=True))
        return
    status = asyncio.run(operator.ask_model(broker(arguments), arguments.action, arguments.force))
    print(msgspec.json.format(msgspec.json.encode(status)).decode())


def health(arguments: argparse.Namespace) -> int:
    if arguments.part == "gateway":
        is_well = GatewayClient(arguments.url).is_ready()
    else:
        is_well = asyncio.run(operator.worker_is_alive(broker(arguments)))
    print("ok" if is_well else "unwell")
    return 0 if is_well else 1


def dead(arguments: argparse.Namespace) -> int:
    if arguments.action == "list":
        for letter in asyncio.run(operator.dead_letters(broker(arguments))):
            print(
                f"{letter.seq}  {letter.at:%Y-%m-%d %H:%M:%S}  {printable(letter.subject)}  {printable(letter.reason)}"
            )
        return 0
    try:
        for subject in asyncio.run(operator.requeue(broker(arguments), arguments.numbers)):
            print(subject)
    except KeyError as error:
        sys.stderr.write(f"whisper-jetstream: there is no dead letter {error}\n")
        return 1
    return 0


def topology(arguments: argparse.Namespace) -> int:
    """As diff(1): exit status 1 where something differs, or could not be changed."""
    if arguments.action == "diff":
        found = asyncio.run(operator.topology_diff(broker(arguments)))
        for difference in found:
            note = "" if difference.can_be_changed else " (cannot be changed)"
            print(f"{difference.name}: {difference.change}{note}")
        return 1 if found else 0
    outcome = asyncio.run(operator.topology_applied(broker(arguments)))
    for applied in outcome:
        if applied.problem:
            sys.stderr.write(f"{applied.difference.name}: {applied.difference.change}: {applied.problem}\n")
        else:
            print(f"{applied.difference.name}: {applied.difference.done}")
    return 1 if any(applied.problem for applied in outcome) else 0


def broker(arguments: argparse.Namespace) -> BrokerSettings:
    """Where the commands that speak NATS go; `--url nats://...` says it as well as `--nats-url`. Raises SettingsError."""
    set_up_logging("error")
    by_url = arguments.url if arguments.url.startswith(BROKER_SCHEMES) else None
    return operator.broker_settings(arguments.nats_url or by_url)


def up(arguments: argparse.Namespace) -> int:
    settings = settings_for(arguments.model)
    if arguments.audio is not None and not arguments.audio.is_file():
        raise FileNotFoundError(f"there is no file {arguments.audio}")
    set_up_logging(settings.log_level if arguments.audio is None else "warning")
    if arguments.audio is not None:
        settings = msgspec.structs.replace(settings, log_level="warning")
    one = arguments.audio and partial(transcribe_one, arguments.audio, options_of(arguments))
    with claimed(settings) as claim:
        model_path = find_model(settings, named=arguments.model is not None)
        return asyncio.run(run_system(claim, model_path, one))


def timings(arguments: argparse.Namespace) -> None:
    client = GatewayClient(arguments.url)
    spent = {job_id: client.job(job_id)["timings"] for job_id in arguments.ids}
    if unfinished := [job_id for job_id, found in spent.items() if found is None]:
        raise ClientError(f"there are no timings of {', '.join(unfinished)}: only of jobs that are done")
    print(timeline.table(spent))
    save_plot(arguments.plot, spent)


def bench(arguments: argparse.Namespace) -> None:
    if not arguments.audio.is_file():
        raise FileNotFoundError(f"there is no file {arguments.audio}")
    from standalone.bench import (
        measure,
    )  # brings the voice detector: a third of a second that no other command needs

    settings = settings_for(arguments.model)
    model_path = find_model(settings, named=arguments.model is not None)
    running, rounds = GatewayClient(arguments.url), max(1, arguments.rounds)
    report = asyncio.run(measure(settings, model_path, arguments.audio, running, rounds))
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        print(bench_report.table(report))
    save_plot(arguments.plot, {"first job": report.service.cold, "next jobs": report.service.warm})


def save_plot(path: Path | None, jobs: Mapping[str, Mapping[str, float | None]]) -> None:
    if path is not None:
        path.write_bytes(timeline.plot(jobs))
        screen.print(f"drawn into {path}")


def transcribe_files(arguments: argparse.Namespace) -> int:
    client, worst = GatewayClient(arguments.url), 0
    for path in arguments.files:
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        job = transcribe(client, path, options_of(arguments))
        if arguments.json:
            print(json.dumps(job, ensure_ascii=False, indent=2))
        worst = max(worst, int(job["status"] != "done") if arguments.json else show(job))
    return worst


COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "up": up,
    "transcribe": transcribe_files,
    "timings": timings,
    "bench": bench,
    "jobs": jobs,
    "cancel": cancel,
    "model": model,
    "health": health,
    "dead": dead,
    "topology": topology,
}
