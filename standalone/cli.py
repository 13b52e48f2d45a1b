"""The `whisper-jetstream` command."""

import argparse
import asyncio
import json
import logging
import os
import sys
from pathlib import Path

import msgspec

from broker.errors import BrokerError
from broker.running import set_up_logging
from schemas.jobs import TranscribeOptions
from schemas.settings import SettingsError
from standalone import operator
from standalone.client import ClientError, GatewayClient
from standalone.models import ModelError
from standalone.supervisor import StartError
from standalone.terminal import show, transcribe
from standalone.up import find_model, settings_for, up

EXPECTED = (SettingsError, ModelError, ClientError, StartError, BrokerError, FileNotFoundError)
"""What a user can mend: told in one line, without a traceback."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="whisper-jetstream", description="Audio to text over NATS JetStream.")
    top.add_argument(
        "--url", default=os.environ.get("WHISPER_URL", "http://127.0.0.1:8080"), help="the gateway"
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
    except KeyboardInterrupt:
        return 130


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says; the exit status."""
    match arguments.command:
        case "up":
            return start(arguments)
        case "transcribe":
            return transcribe_files(GatewayClient(arguments.url), arguments)
        case "jobs":
            for job in GatewayClient(arguments.url).jobs():
                print(f"{job['id']}  {job['status']:<9} {job['progress']:>3}%  {job['filename'] or ''}")
        case "cancel":
            print(GatewayClient(arguments.url).cancel(arguments.id)["status"])
        case "dead":
            return dead(arguments)
        case "health":
            return health(arguments)
        case "model" if arguments.action == "fetch":
            print(find_model(settings_for(arguments.name), named=True))
        case _:
            status = asyncio.run(operator.ask_model(arguments.action, arguments.force))
            print(msgspec.json.format(msgspec.json.encode(status)).decode())
    return 0


def health(arguments: argparse.Namespace) -> int:
    if arguments.part == "gateway":
        is_well = GatewayClient(arguments.url).is_ready()
    else:
        is_well = asyncio.run(operator.worker_is_alive())
    print("ok" if is_well else "unwell")
    return 0 if is_well else 1


def dead(arguments: argparse.Namespace) -> int:
    if arguments.action == "list":
        for letter in asyncio.run(operator.dead_letters()):
            print(f"{letter.seq}  {letter.at:%Y-%m-%d %H:%M:%S}  {letter.subject}  {letter.reason}")
        return 0
    try:
        for subject in asyncio.run(operator.requeue(arguments.numbers)):
            print(subject)
    except KeyError as error:
        sys.stderr.write(f"whisper-jetstream: there is no dead letter {error}\n")
        return 1
    return 0


def start(arguments: argparse.Namespace) -> int:
    settings = settings_for(arguments.model)
    if arguments.audio is not None and not arguments.audio.is_file():
        raise FileNotFoundError(f"there is no file {arguments.audio}")
    set_up_logging(settings.log_level if arguments.audio is None else "warning")
    if arguments.audio is not None:
        settings = msgspec.structs.replace(settings, log_level="warning")
    model_path = find_model(settings, named=arguments.model is not None)
    return asyncio.run(up(settings, model_path, arguments.audio, options_of(arguments)))


def transcribe_files(client: GatewayClient, arguments: argparse.Namespace) -> int:
    worst = 0
    for path in arguments.files:
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        job = transcribe(client, path, options_of(arguments))
        if arguments.json:
            print(json.dumps(job, ensure_ascii=False, indent=2))
        worst = max(worst, int(job["status"] != "done") if arguments.json else show(job))
    return worst


if __name__ == "__main__":
    sys.exit(main())
