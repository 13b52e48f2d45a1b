"""Figures of the GPU, from NVML. The only importer of pynvml."""

import logging
from typing import Protocol

import pynvml

from schemas.model import GpuStatus

log = logging.getLogger(__name__)


class Gpu(Protocol):
    """A source of figures of one GPU. All methods block, for less than a millisecond."""

    def status(self) -> GpuStatus | None:
        """Return the GPU as it is now; None where there is none."""

    def used_by(self, pid: int) -> int | None:
        """Return the bytes of VRAM that a process holds; None where the driver does not say, as inside containers."""


class NvmlGpu:
    """The first GPU that CUDA is allowed to use, asked through NVML."""

    def __init__(self, visible_devices: str | None) -> None:
        """`visible_devices` is CUDA_VISIBLE_DEVICES: indices in PCI order, or UUIDs. None means all."""
        self._device = (visible_devices if visible_devices is not None else "0").split(",")[0].strip()
        self._usable = self._device not in ("", "-1")
        if not self._usable:
            return
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            log.info("no GPU figures: %s", error)
            self._usable = False

    def status(self) -> GpuStatus | None:
        """See Gpu.status."""
        if not self._usable:
            return None
        try:
            handle = self._handle()
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            return GpuStatus(
                name=str(pynvml.nvmlDeviceGetName(handle)),
                driver=str(pynvml.nvmlSystemGetDriverVersion()),
                vram_total=int(memory.total),
                vram_used=int(memory.used),
                vram_free=int(memory.free),
                temperature=_temperature(handle),
            )
        except pynvml.NVMLError as error:
            log.warning("NVML: %s", error)
            return None

    def used_by(self, pid: int) -> int | None:
        """See Gpu.used_by."""
        if not self._usable:
            return None
        try:
            processes = pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle())
        except pynvml.NVMLError as error:
            log.debug("NVML: %s", error)
            return None
        found = [p.usedGpuMemory for p in processes if p.pid == pid and p.usedGpuMemory is not None]
        return int(found[0]) if found else None

    def _handle(self) -> object:
        if self._device.isdigit():
            return pynvml.nvmlDeviceGetHandleByIndex(int(self._device))
        return pynvml.nvmlDeviceGetHandleByUUID(self._device)


def _temperature(handle: object) -> int | None:
    try:
        return int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
    except pynvml.NVMLError:
        # Many virtual GPUs have no thermometer.
        return None
