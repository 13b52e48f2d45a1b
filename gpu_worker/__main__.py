"""Start a worker: `python -m gpu_worker`. SIGTERM or SIGINT stops it in order."""

import os
import sys

from broker.errors import BrokerError
from gpu_worker.audio import ffmpeg, vad
from gpu_worker.blame import MachineTrouble
from gpu_worker.model.gpu import NvmlGpu
from gpu_worker.settings import WorkerSettings
from gpu_worker.worker import Worker
from process.logs import set_up_logging
from process.signals import run_until_signal
from schemas.settings import SettingsError, from_environment


def main() -> int:
    try:
        settings = from_environment(WorkerSettings, os.environ)
    except SettingsError as error:
        sys.stderr.write(f"gpu_worker: {error}\n")
        return 2
    set_up_logging(settings.log_level)
    try:
        vad.model_path()
        ffmpeg.programs()
    except MachineTrouble as error:
        sys.stderr.write(f"gpu_worker: {error}\n")
        return 2
    return run_until_signal(
        Worker(settings, NvmlGpu(os.environ.get("CUDA_VISIBLE_DEVICES"))).run(), expected=BrokerError
    )


if __name__ == "__main__":
    sys.exit(main())
