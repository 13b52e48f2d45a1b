"""Run recordings through the product and through whisper-cli, with the same options."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.speech import product
from tests.speech.clips import as_wav
from tests.speech.measures import Heard
from tests.speech.peer import Peer
from tests.speech.values import CLI, CLI_VAD, PRODUCT, RUNS, Clip, Measured


class Orders(msgspec.Struct, frozen=True):
    """What to measure with a model."""

    model: str
    file: Path
    clips: list[Clip]
    full: bool
    """False leaves out what takes long: of whisper-cli one run for each recording, with voice detection where pauses are long."""


def measured(orders: Orders, peer: Peer, folder: Path) -> Iterator[Measured]:
    """Yield recordings as they are done. First comes whisper-cli, so that it never shares the machine with the product."""
    multilingual = orders.full and not orders.model.endswith(".en")
    peers, languages = list[dict[str, Heard]](), list[dict[str, str]]()
    for clip in orders.clips:
        wav, asked = as_wav(clip.path, folder), clip.asked(orders.model)
        both = orders.full and not clip.is_twin
        wanted = (CLI, CLI_VAD) if both else (CLI_VAD if clip.speech else CLI,)
        peers.append({name: peer.transcribe(orders.file, wav, asked, vad=name == CLI_VAD) for name in wanted})
        detects = multilingual and not clip.speech
        languages.append({CLI: peer.transcribe(orders.file, wav, "auto").language} if detects else {})
    with product.running(orders.file, folder) as http:
        for clip, theirs, detected in zip(orders.clips, peers, languages, strict=True):
            runs = [product.run(http, clip.path, clip.asked(orders.model)) for _ in range(RUNS)]
            found = {PRODUCT: product.run(http, clip.path, "auto").heard.language} if detected else {}
            yield Measured(
                model=orders.model,
                clip=clip,
                audio_secs=runs[0].audio_secs,
                runs=tuple(run.heard for run in runs),
                peers=theirs,
                languages=found | detected,
            )
