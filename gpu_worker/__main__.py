"""Start a worker: `python -m gpu_worker`. SIGTERM or SIGINT stops it in order."""

import os
import sys

from broker.errors import BrokerError
from gpu_worker.audio import vad
from gpu_worker.blame import MachineTrouble
from gpu_worker.model.gpu import NvmlGpu
from gpu_worker.settings import WorkerSettings
from gpu_worker.worker import Worker
from process.start import cannot_start, run_service

PROGRAM = "gpu_worker"


async def work(settings: WorkerSettings) -> None:
    """Work until cancelled."""
    await Worker(settings, NvmlGpu(os.environ.get("CUDA_VISIBLE_DEVICES"))).run()


def main() -> int:
    """Return the exit status of the process."""
    try:
        # A worker without it could prepare no job, so it does not even begin.
        vad.model_path()
    except MachineTrouble as error:
        return cannot_start(PROGRAM, error)
    return run_service(PROGRAM, WorkerSettings, work, BrokerError)


if __name__ == "__main__":
    sys.exit(main())
