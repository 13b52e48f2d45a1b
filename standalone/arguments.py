"""The command line of `whisper-jetstream`: its commands and their arguments."""

import argparse
import os
from pathlib import Path

from schemas.options import TranscribeOptions
from standalone import operator


def parser() -> argparse.ArgumentParser:
    """Return the parser. Each command of it is a function in standalone/commands.py."""
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
        "--model",
        metavar="NAME|FILE",
        help="demo, base.en, large-v3, ...: unpacked or downloaded if it is not there; with a / or .bin, a file",
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
    _add_model(
        commands.add_parser("model", help="look at the model, load it, hand the GPU back; model files")
    )
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


def _add_model(model: argparse.ArgumentParser) -> None:
    actions = model.add_subparsers(dest="action", required=True)
    helps = {"status": "the model as the worker tells it", "load": "load it", "unload": "hand the GPU back"}
    for name in operator.SETTLED:
        asked = actions.add_parser(name, help=helps[name])
        asked.set_defaults(force=False)
        if name == "unload":
            asked.add_argument("--force", action="store_true", help="also while a job runs: it is put back")
    known = actions.add_parser("list", help="models that are known by name, and what is on disk, checked")
    known.add_argument("--json", action="store_true", help="print the same as JSON")
    fetch = actions.add_parser("fetch", help="download a model, or unpack the demo")
    fetch.add_argument(
        "name", nargs="?", metavar="NAME", help="demo, base.en, large-v3, ...: see `model list`"
    )


def _add_options(command: argparse.ArgumentParser) -> None:
    for name in TranscribeOptions.__struct_fields__:
        command.add_argument(f"--{name.replace('_', '-')}", dest=f"option_{name}", metavar="VALUE")


def options_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the transcription options that were given, by the names of their form fields."""
    given = {n: getattr(arguments, f"option_{n}", None) for n in TranscribeOptions.__struct_fields__}
    return {name: value for name, value in given.items() if value is not None}
