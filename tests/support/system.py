"""Real processes: workers and gateways as an operator would start them, on free ports, with their logs in files."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.support.nats_process import NatsProcess
from tests.support.script import Script

UP_TIMEOUT_SECS = 30
LISTENING = re.compile(r"Running on (http://\S+:\d+)")


class Process:
    """One of ours; its log is a file."""

    def __init__(self, module: str, env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as sink:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", module], env={**os.environ, **env}, stdout=sink, stderr=sink
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def status(self) -> int | None:
        """The exit status, None while it runs."""
        return self._popen.poll()

    def wait_for_log(self, pattern: re.Pattern[str]) -> re.Match[str]:
        deadline = time.monotonic() + UP_TIMEOUT_SECS
        while (found := pattern.search(self.log.read_text(errors="replace"))) is None:
            if self._popen.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{pattern.pattern!r} never came:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.01)
        return found

    def wait(self, timeout_secs: float) -> int:
        """The exit status of one that ends by itself."""
        return self._popen.wait(timeout_secs)

    def send(self, sig: signal.Signals) -> None:
        self._popen.send_signal(sig)

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit status."""
        if self._popen.poll() is None:
            self._popen.send_signal(sig)
        return self._popen.wait(20)


class Gateway(Process):
    def __init__(self, env: dict[str, str], log: Path, module: str = "gateway") -> None:
        super().__init__(module, {"HOST": "127.0.0.1", **env, "PORT": "0"}, log)
        try:
            self.url = self.wait_for_log(LISTENING)[1]
            self.http = httpx.Client(base_url=self.url, timeout=60)
        except BaseException:
            self._popen.kill()
            raise

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        self.http.close()
        return super().stop(sig)


class System:
    """A nats-server, and what is started on it."""

    def __init__(self, folder: Path, model: Path, nats: NatsProcess | None = None) -> None:
        """`nats` is what it runs on; a NatsProcess of its own where none is given."""
        self._folder, self._started = folder, 0
        self.nats = nats or NatsProcess(folder / "nats")
        self.nats.start()
        self._env = {
            "NATS_URL": self.nats.url,
            "WHISPER_MODEL": "demo",
            "WHISPER_MODEL_PATH": str(model),
            "JOB_ACK_WAIT_SECS": "2",
            "SPOOL_DIR": str(folder / "spool"),
            "LOG_LEVEL": "info",
            "JOBS_WHEN_UNLOADED": "queue",
            "WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
        }
        self._processes: list[Process] = []

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The `whisper-jetstream` command, as an operator of this system runs it."""
        return subprocess.run(
            [sys.executable, "-m", "standalone.cli", *arguments],
            env={**os.environ, **self._env},
            capture_output=True,
            text=True,
            timeout=UP_TIMEOUT_SECS,
            check=False,
        )

    def worker(self, **env: str) -> Process:
        """It computes on the CPU, so that a machine with a GPU gives the same results; tests/gpu asks for the GPU."""
        env = {**self._env, "WHISPER_USE_GPU": "false", **env}
        return self._keep(Process("gpu_worker", env, self._log("worker")))

    def scripted_worker(self, script: Script, **env: str) -> Process:
        """A worker with scripted engines and a scripted GPU."""
        env = {**self._env, **script.env, **env}
        return self._keep(Process("tests.support.worker_with_scripted_gpu", env, self._log("worker")))

    def script(self) -> Script:
        return Script(self._folder / "script")

    def gateway(self, module: str = "gateway", **env: str) -> Gateway:
        gateway = Gateway({**self._env, **env}, self._log("gateway"), module)
        self._keep(gateway)
        return gateway

    @property
    def spool(self) -> Path:
        return self._folder / "spool"

    def close(self) -> None:
        for process in self._processes:
            process.stop()
        self.nats.stop()

    def logs(self) -> str:
        return "\n".join(f"== {p.log.name}\n{p.log.read_text(errors='replace')}" for p in self._processes)

    def _log(self, name: str) -> Path:
        self._started += 1
        return self._folder / f"{name}-{self._started}.log"

    def _keep(self, process: Process) -> Process:
        self._processes.append(process)
        return process
