"""What NVML tells of the GPU. The only importer of pynvml."""

import logging
from typing import Protocol

import pynvml

from schemas.model import GpuStatus

log = logging.getLogger(__name__)


class Gpu(Protocol):
    def status(self) -> GpuStatus | None:
        """The GPU now; None where there is none to ask. Blocking, below a millisecond."""


class NvmlGpu:
    """The GPU with this index, as NVML numbers them."""

    def __init__(self, index: int = 0) -> None:
        self._index = index
        try:
            pynvml.nvmlInit()
            self._usable = True
        except pynvml.NVMLError as error:
            log.info("no GPU figures: %s", error)
            self._usable = False

    def status(self) -> GpuStatus | None:
        if not self._usable:
            return None
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(self._index)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            return GpuStatus(
                name=str(pynvml.nvmlDeviceGetName(handle)),
                driver=str(pynvml.nvmlSystemGetDriverVersion()),
                vram_total=int(memory.total),
                vram_used=int(memory.used),
                vram_free=int(memory.free),
            )
        except pynvml.NVMLError as error:
            log.warning("NVML: %s", error)
            return None
