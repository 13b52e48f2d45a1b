"""What every job of this worker process shares on this machine."""

import uuid
from collections.abc import Callable

from gpu_worker.machine import Machine
from gpu_worker.model.model import Model
from gpu_worker.settings import WorkerSettings
from gpu_worker.spool import Spool


class Workplace:
    """The settings, the model, the state of the machine and the spool folder."""

    def __init__(
        self,
        settings: WorkerSettings,
        model: Model,
        machine: Machine,
        spool: Spool,
        on_measured: Callable[[float, float], None],
    ) -> None:
        """`on_measured` is called for each job that ran in one go: seconds of its audio, seconds on the engine."""
        self.settings, self.model, self.machine, self.spool = settings, model, machine, spool
        self.on_measured = on_measured
        self.run_id = uuid.uuid4().hex
        """Names this process: a preparation that begins again in the same process has not killed it."""
