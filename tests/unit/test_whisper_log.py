"""What is read out of whisper.cpp's log: the lines are those of 1.8.5, with CUDA on an H200."""

import pytest

from gpu_worker.engine.whisper_cpp.log import WhisperLog

DEVICE = "  Device 0: NVIDIA H200, compute capability 9.0, VMM: yes, VRAM: 143167 MiB\n"
USED = "whisper_backend_init_gpu: using CUDA0 backend\n"


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ([], "cpu"),
        ([DEVICE, USED], "CUDA0 (NVIDIA H200)"),
        ([DEVICE], "cpu"),  # not wanted, or it could not be started: the model is in the machine's memory
        ([DEVICE, "whisper_backend_init: using CPU backend\n"], "cpu"),
        ([USED.replace("CUDA0", "BLAS")], "blas"),
    ],
)
def test_the_backend_is_the_one_that_computes(lines: list[str], name: str) -> None:
    log = WhisperLog()
    for line in lines:
        log(2, line)
    assert log.backend_name() == name


def test_a_state_that_falls_back_to_the_cpu_is_seen() -> None:
    """whisper.cpp says nothing then."""
    log = WhisperLog()
    for line in (DEVICE, USED):
        log(2, line)
    log.expect_backend()
    log(2, "whisper_backend_init_gpu: no GPU found\n")
    assert log.backend_name() == "cpu"
