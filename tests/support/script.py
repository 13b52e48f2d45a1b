"""What scripted engines and the scripted GPU of one test are told, and what they have done."""

import json
import sys
from pathlib import Path

import msgspec
import psutil

from gpu_worker.engine.protocol import Transcribe

MIB = 2**20
ENGINE = Path(__file__).with_name("scripted_engine.py")


class Script:
    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.plan()
        self.gpu(others=0)

    @property
    def env(self) -> dict[str, str]:
        """What the worker must be started with."""
        return {
            "ENGINE_COMMAND": f"{sys.executable} {ENGINE} {self._folder}",
            "SCRIPTED_GPU": str(self._folder),
            "PYTHONPATH": str(ENGINE.parent.parent.parent),
        }

    def plan(self, load: str = "ok", job: str = "ok") -> None:
        """One word per start of an engine, the last for all that follow."""
        plan = {"load": load.split(), "job": job.split()}
        self._replace("plan.json", json.dumps(plan))

    def gpu(self, others: int, total: int = 8192 * MIB, model: int = 3000 * MIB) -> None:
        """What others use, what there is, what the model takes while an engine lives; bytes."""
        self._replace("gpu.json", json.dumps({"others": others, "total": total, "model": model}))

    def go(self) -> None:
        """Let those go on that hold."""
        (self._folder / "go").touch()

    def starts(self) -> list[int]:
        """Process ids of all engines that were started."""
        starts = self._folder / "starts"
        return [int(line) for line in starts.read_text().split()] if starts.exists() else []

    def orders(self) -> list[Transcribe]:
        """What the engines were told to transcribe, in order."""
        file = self._folder / "orders"
        lines = file.read_bytes().splitlines() if file.exists() else []
        return [msgspec.json.decode(line, type=Transcribe) for line in lines]

    def alive(self) -> list[int]:
        return [pid for pid in self.starts() if psutil.pid_exists(pid)]

    def _replace(self, name: str, text: str) -> None:
        """Whole or not at all: others read it at any time."""
        new = self._folder / f"{name}.new"
        new.write_text(text)
        new.rename(self._folder / name)
