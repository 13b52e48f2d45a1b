"""Without a GPU nothing here runs, and the reason is told."""

import pynvml
import pytest


@pytest.fixture(scope="session", autouse=True)
def needs_a_gpu() -> None:
    try:
        pynvml.nvmlInit()
        if pynvml.nvmlDeviceGetCount() == 0:
            pytest.skip("NVML knows of no GPU")
    except pynvml.NVMLError as error:
        pytest.skip(f"there is no NVIDIA GPU: {error}")
