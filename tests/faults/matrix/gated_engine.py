"""The real engine process behind a gate: `python gated_engine.py FOLDER`.

While FOLDER/hold exists it waits, before it reads its first order; FOLDER/held-<pid> says that it does. Then it becomes
gpu_worker.engine.child. As the real one it ends with the pipe of its worker.
"""

import os
import runpy
import select
import sys
from pathlib import Path

GATE_POLL_MS = 5


def wait_at_the_gate(folder: Path) -> None:
    pipe = select.poll()
    pipe.register(0, 0)  # only the end of the pipe, which is reported unasked
    while (folder / "hold").exists():
        (folder / f"held-{os.getpid()}").touch()
        if pipe.poll(GATE_POLL_MS):
            os._exit(0)


if __name__ == "__main__":
    wait_at_the_gate(Path(sys.argv[1]))
    runpy.run_module("gpu_worker.engine.child", run_name="__main__", alter_sys=True)
