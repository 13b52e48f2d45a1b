"""A worker whose GPU is a double of NVML: SCRIPTED_GPU names a folder.

`gpu.json` there tells total and what others use; the model's own share counts while an engine of `starts` lives.
"""

import json
import os
import sys
from pathlib import Path

import psutil

from broker.errors import BrokerError
from gpu_worker.settings import WorkerSettings
from gpu_worker.worker import Worker
from process.logs import set_up_logging
from process.signals import run_until_signal
from schemas.model import GpuStatus
from schemas.settings import from_environment


class ScriptedGpu:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def status(self) -> GpuStatus | None:
        figures = json.loads((self._folder / "gpu.json").read_text())
        used = figures["others"] + sum(self.used_by(pid) or 0 for pid in self._engines())
        return GpuStatus(
            name="Scripted GPU",
            driver="1.0",
            vram_total=figures["total"],
            vram_used=used,
            vram_free=figures["total"] - used,
            temperature=40,
        )

    def used_by(self, pid: int) -> int | None:
        figures = json.loads((self._folder / "gpu.json").read_text())
        return int(figures["model"]) if pid in self._engines() else None

    def _engines(self) -> list[int]:
        starts = self._folder / "starts"
        pids = [int(line) for line in starts.read_text().split()] if starts.exists() else []
        return [pid for pid in pids[-1:] if psutil.pid_exists(pid)]


if __name__ == "__main__":
    settings = from_environment(WorkerSettings, os.environ)
    set_up_logging(settings.log_level)
    sys.exit(
        run_until_signal(
            Worker(settings, ScriptedGpu(Path(os.environ["SCRIPTED_GPU"]))).run(), expected=BrokerError
        )
    )
