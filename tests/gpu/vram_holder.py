"""Take all VRAM but so many MiB and hold it until killed: `python vram_holder.py 64`. CUDA's driver API by ctypes."""

import ctypes
import signal
import sys

CUDA = ctypes.CDLL("libcuda.so.1")
MIB = 2**20
STEPS = (64 * MIB, 2 * MIB)
"""Large ones first: there may be 140 GB to take."""


def call(name: str, *arguments: object) -> None:
    code = getattr(CUDA, name)(*arguments)
    if code != 0:
        raise RuntimeError(f"{name}: CUDA error {code}")


def main() -> None:
    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
    call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    for step in STEPS:
        while free.value >= int(sys.argv[1]) * MIB + step:
            call("cuMemAlloc_v2", ctypes.byref(ctypes.c_uint64()), ctypes.c_size_t(step))
            call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    sys.stdout.write("holding\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main()
