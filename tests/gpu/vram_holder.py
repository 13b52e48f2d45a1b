"""Take all VRAM but so many MiB and hold it until killed: `python vram_holder.py 64`. CUDA's driver API by ctypes."""

import ctypes
import signal
import sys

CUDA = ctypes.CDLL("libcuda.so.1")
STEP = 64 * 2**20


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
    while True:
        call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        if free.value < int(sys.argv[1]) * 2**20 + STEP:
            break
        call("cuMemAlloc_v2", ctypes.byref(ctypes.c_uint64()), ctypes.c_size_t(STEP))
    sys.stdout.write("holding\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main()
