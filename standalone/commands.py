"""What each command of `whisper-jetstream` does."""

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
from schemas.settings import SettingsError
from standalone import bench_report, model_list, operator, timeline
from standalone.arguments import options_of, parser
from standalone.client import ClientError, GatewayClient
from standalone.errors import StartError
from standalone.model_choice import fetch_by_name, find_model, settings_for
from standalone.model_list import FileState
from standalone.models import ModelError
from standalone.terminal import printable, screen, show, transcribe
from standalone.up import claimed, transcribe_one
from standalone.up import up as run_system

EXPECTED = (
    SettingsError, ModelError, ClientError, StartError, BrokerError, FileNotFoundError, Failure,
)  # fmt: skip
"""Errors that a user can do something about: they are printed in one line, without a traceback."""
BROKER_SCHEMES = ("nats://", "tls://", "ws://", "wss://")
"""Schemes of a `--url` that names nats-server and not the gateway."""


def main(argv: list[str] | None = None) -> int:
    """Run a command line and return the exit status."""
    arguments = parser().parse_args(argv)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        return run(arguments)
    except EXPECTED as error:
        sys.stderr.write(f"whisper-jetstream: {error}\n")
        return 1


def run(arguments: argparse.Namespace) -> int:
    """Run the command of a parsed command line and return the exit status."""
    return COMMANDS[arguments.command](arguments) or 0


def jobs(arguments: argparse.Namespace) -> None:
    """List jobs, newest first."""
    for job in GatewayClient(arguments.url).jobs():
        print(f"{job['id']}  {job['status']:<9} {job['progress']:>3}%  {printable(job['filename'] or '')}")


def cancel(arguments: argparse.Namespace) -> None:
    """Cancel a job."""
    print(GatewayClient(arguments.url).cancel(arguments.id)["status"])


def model(arguments: argparse.Namespace) -> int:
    """Show or fetch model files, or ask a worker about its model. The exit status of a list is 1 where a file is not usable."""
    match arguments.action:
        case "list":
            return list_models(Path(settings_for(None).models_dir), as_json=arguments.json)
        case "fetch":
            print(fetch_by_name(arguments.name))
        case action:
            status = asyncio.run(operator.ask_model(broker(arguments), action, arguments.force))
            print(msgspec.json.format(msgspec.json.encode(status)).decode())
    return 0


def list_models(folder: Path, *, as_json: bool) -> int:
    """Print the known models and the files in `folder`, each line as soon as its file is read: the largest takes seconds."""
    files = model_list.listed(folder)
    if as_json:
        found = list(files)
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return int(any(file.state is FileState.UNUSABLE for file in found))
    screen.print(f"models in {folder.absolute()}:", markup=False, soft_wrap=True)
    worst = 0
    try:
        for file in files:
            print(printable(model_list.line(file)), flush=True)
            worst |= int(file.state is FileState.UNUSABLE)
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` has. What is still buffered must go somewhere at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return worst


def health(arguments: argparse.Namespace) -> int:
    """Check a gateway, or this host's worker."""
    if arguments.part == "gateway":
        is_well = GatewayClient(arguments.url).is_ready()
    else:
        is_well = asyncio.run(operator.worker_is_alive(broker(arguments)))
    print("ok" if is_well else "unwell")
    return 0 if is_well else 1


def dead(arguments: argparse.Namespace) -> int:
    """List dead letters, or put them back into their queues."""
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
    """Compare or change the topology. As with diff(1), the exit status is 1 where something differs or could not be changed."""
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
    """Return how to reach nats-server, which `--nats-url` or a `--url nats://...` names. Raises SettingsError."""
    set_up_logging("error")
    by_url = arguments.url if arguments.url.startswith(BROKER_SCHEMES) else None
    return operator.broker_settings(arguments.nats_url or by_url)


def up(arguments: argparse.Namespace) -> int:
    """Start the whole system; with `--audio` transcribe one file with it."""
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
    """Print where the time of finished jobs went."""
    client = GatewayClient(arguments.url)
    spent = {job_id: client.job(job_id)["timings"] for job_id in arguments.ids}
    if unfinished := [job_id for job_id, found in spent.items() if found is None]:
        raise ClientError(f"there are no timings of {', '.join(unfinished)}: only of jobs that are done")
    print(timeline.table(spent))
    save_plot(arguments.plot, spent)


def bench(arguments: argparse.Namespace) -> None:
    """Measure the engine alone, and the whole service."""
    if not arguments.audio.is_file():
        raise FileNotFoundError(f"there is no file {arguments.audio}")
    # Imported here, because the voice detector takes a third of a second that no other command needs.
    from standalone.bench import measure

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
    """Draw the timings of jobs into a file, where one is named."""
    if path is not None:
        path.write_bytes(timeline.plot(jobs))
        screen.print(f"drawn into {path}")


def transcribe_files(arguments: argparse.Namespace) -> int:
    """Submit files and print their transcripts."""
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
