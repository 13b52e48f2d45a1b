"""The one import of pywhispercpp: its native module, with the environment that whisper.cpp needs before it is loaded.

Import this module in the engine process alone (see EngineLibrary in gpu_worker/engine/library.py).
"""

import atexit
import os

# ggml's abort() would otherwise fork a debugger to print a backtrace.
os.environ["GGML_NO_BACKTRACE"] = "1"
# OpenMP threads that spin at a barrier cost up to a hundredfold on busy cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import _pywhispercpp as pw

# A log callback that is still set while the interpreter shuts down makes it abort.
atexit.register(pw.whisper_log_set, None)

__all__ = ["pw"]
