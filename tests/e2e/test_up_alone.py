"""`up` has what it needs for itself, ends in time whenever it is told to, and leaves nothing behind however it ends."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest

from standalone import data_dir
from standalone import up as up_module
from standalone.errors import StartError
from tests.e2e.test_up import EXPECTED_TEXT, Up, environment, free_port, run
from tests.support.disk import fill, mounted
from tests.support.ffmpeg import ffmpeg
from tests.support.http import AUDIO
from tests.support.nats_process import NatsProcess
from tests.support.system import System

pytestmark = pytest.mark.slow

__all__ = ["environment"]
NOISE_SECS = 2.0
"""Tests run beside others: a Python that takes 0.3 s to start then takes 1.5."""
CTRL_C_SECS = NO_BROKER_SECS = 3.0 + NOISE_SECS
TAKEN_SECS = 2.0 + NOISE_SECS
LONG_SECS = 30.0


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stderr
    [line] = done.stderr.strip().splitlines()
    return line


@pytest.fixture
def up(environment: dict[str, str], tmp_path: Path) -> Iterator[Up]:
    running = Up(environment, tmp_path / "up.log")
    yield running
    running.process.kill()
    running.process.wait()
    print(running.said)


def test_a_second_up_on_the_same_folder_says_who_has_it(environment: dict[str, str], up: Up) -> None:
    other = environment | {"PORT": str(free_port()), "NATS_PORT": str(free_port())}
    begun = time.monotonic()
    line = one_line(run(other, "up", "--model", "demo"))
    assert f"process {up.process.pid}" in line
    assert environment["DATA_DIR"] in line
    assert time.monotonic() - begun < TAKEN_SECS


def test_the_http_port_of_somebody_else_is_told_before_anything_is_started(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", int(environment["PORT"]))):
        begun = time.monotonic()
        line = one_line(run(environment, "up", "--model", "demo"))
        assert time.monotonic() - begun < TAKEN_SECS
    assert f"PORT={environment['PORT']} is taken" in line
    assert not (tmp_path / "data" / "jetstream").exists()


def test_the_port_of_another_instance_is_never_taken_for_ones_own(
    environment: dict[str, str], up: Up, tmp_path: Path
) -> None:
    """Neither is it told to be up, nor does the file go to the other one."""
    other = environment | {"DATA_DIR": str(tmp_path / "other"), "NATS_PORT": str(free_port())}
    line = one_line(run(other, "up", "--model", "demo", "--audio", str(AUDIO / "english.mp3")))
    assert "is taken" in line
    assert run(environment, "jobs").stdout == ""


def test_a_gateway_tells_whose_it_is(environment: dict[str, str], up: Up) -> None:
    [gateway] = [p for p in up.family() if "-m gateway" in " ".join(p.cmdline())]
    told = httpx.get(f"http://127.0.0.1:{environment['PORT']}/health/ready").json()["instance_id"]
    assert told == gateway.environ()["INSTANCE_ID"] != ""


def test_nats_takes_another_port_where_the_usual_one_is_taken(
    environment: dict[str, str], tmp_path: Path
) -> None:
    del environment["NATS_PORT"]
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # somebody else has it: that does as well
            stack.enter_context(socket.create_server(("127.0.0.1", 4222)))
        up = Up(environment, tmp_path / "up.log")
        assert "port 4222 is taken: nats-server listens at nats://127.0.0.1:" in up.said.replace("\n", " ")
        assert "4222" not in (run(environment, "dead", "list").stderr)
        assert run(environment, "dead", "list").returncode == 0
        up.process.terminate()
        assert up.process.wait(10) == 0


def test_a_nats_port_that_is_asked_for_and_taken_is_told(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", int(environment["NATS_PORT"]))):
        line = one_line(run(environment, "up", "--model", "demo"))
    assert f"NATS_PORT={environment['NATS_PORT']} is taken" in line


BROKER_COMMANDS = [
    ("model", "status"),
    ("model", "unload"),
    ("dead", "list"),
    ("dead", "requeue"),
    ("health", "worker"),
    ("topology", "diff"),
    ("topology", "apply"),
]


@pytest.mark.parametrize("command", BROKER_COMMANDS)
def test_without_a_broker_one_line_says_so(environment: dict[str, str], command: tuple[str, ...]) -> None:
    begun = time.monotonic()
    line = one_line(run(environment, *command))
    assert time.monotonic() - begun < NO_BROKER_SECS
    assert "no nats-server answers at 127.0.0.1:" in line


def test_a_folder_without_an_up_is_named(environment: dict[str, str]) -> None:
    del environment["NATS_PORT"]
    line = one_line(run(environment, "dead", "list"))
    assert f"no `up` runs on DATA_DIR={environment['DATA_DIR']}" in line


def test_a_frozen_broker_is_told_in_time(environment: dict[str, str], nats_process: NatsProcess) -> None:
    nats_process.freeze()
    try:
        begun = time.monotonic()
        line = one_line(run(environment, "--nats-url", nats_process.url, "dead", "list"))
        assert time.monotonic() - begun < NO_BROKER_SECS
        assert "no nats-server answers" in line
    finally:
        nats_process.thaw()


@pytest.mark.parametrize("option", ["--nats-url", "--url"])
def test_a_broker_can_be_named_and_is_only_read(
    environment: dict[str, str], nats_process: NatsProcess, option: str
) -> None:
    for command in (("dead", "list"), ("health", "worker")):
        line = one_line(run(environment, option, nats_process.url, *command))
        assert "has no streams of this service" in line
    assert "no worker answers" in one_line(run(environment, option, nats_process.url, "model", "status"))
    found = run(environment, option, nats_process.url, "topology", "diff")
    assert (found.returncode, found.stdout.count(": missing")) == (1, 13)
    made = run(environment, option, nats_process.url, "topology", "apply")
    assert (made.returncode, made.stdout.count(": made")) == (0, 13)
    assert run(environment, option, nats_process.url, "topology", "diff").returncode == 0
    assert run(environment, option, nats_process.url, "dead", "list").returncode == 0


def test_readers_change_nothing_of_a_running_system(environment: dict[str, str], up: Up) -> None:
    """Also with settings that are not those of the system."""
    del environment["NATS_PORT"]
    strange = environment | {
        "JOB_RETENTION_SECS": "3600",
        "JOB_ACK_WAIT_SECS": "5",
        "AUDIO_MAX_BYTES": "1000000",
    }
    for command in (("dead", "list"), ("health", "worker"), ("model", "status")):
        assert run(strange, *command).returncode == 0
    assert run(environment, "topology", "diff").stdout == ""
    differing = run(strange, "topology", "diff").stdout
    assert "WHISPER_EVENTS: max_age is 7 d, not 1 h" in differing
    assert run(strange, "topology", "apply").returncode == 0
    assert run(strange, "topology", "diff").returncode == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"NATS_REPLICAS": "3"}, "NATS_REPLICAS=3, but this nats-server is in no cluster")],
)
@pytest.mark.parametrize("module", ["gateway", "gpu_worker"])
def test_what_cannot_be_made_ends_a_process_in_a_sentence(
    environment: dict[str, str], nats_process: NatsProcess, module: str, change: dict[str, str], sentence: str
) -> None:
    command = [sys.executable, "-m", module]
    env = environment | change | {"NATS_URL": nats_process.url}
    begun = time.monotonic()
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20, check=False)
    assert time.monotonic() - begun < 10  # no wait for a server or a restart comes before the check
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert sentence in done.stderr.strip().splitlines()[-1]


def ended(processes: list[psutil.Process], secs: float) -> list[psutil.Process]:
    """Those that are still there after so long; zombies that nobody collects have ended."""
    _, alive = psutil.wait_procs(processes, timeout=secs)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_kill_9_leaves_no_process_and_the_folder_is_free(
    environment: dict[str, str], up: Up, tmp_path: Path
) -> None:
    assert run(environment, "model", "load").returncode == 0, "the engine runs too"
    family = up.family()
    assert len(family) == 5
    up.process.kill()
    up.process.wait()
    again = Up(environment, tmp_path / "again.log")  # while the others are still ending
    try:
        assert ended(family, 6) == []
    finally:
        again.process.terminate()
        assert again.process.wait(10) == 0


def test_a_folder_is_not_free_while_its_nats_server_lives(
    environment: dict[str, str], up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither `up` nor its watchdog is there any more, so nobody ends it: it has the lock as well."""
    monkeypatch.setattr(data_dir, "ORPHAN_SECS", 0.5)
    family = up.family()
    up.child("watchdog").kill()
    up.process.kill()
    up.process.wait()
    try:
        with (
            pytest.raises(
                StartError, match=f"a nats-server whose `up` is gone .it was process {up.process.pid}"
            ),
            data_dir.locked(Path(environment["DATA_DIR"])),
        ):
            pytest.fail("two have the folder")
    finally:
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(family, timeout=5)
    with data_dir.locked(Path(environment["DATA_DIR"])):
        pass


def test_kill_9_in_the_middle_of_the_start_leaves_no_process(
    environment: dict[str, str], tmp_path: Path
) -> None:
    up = Up(environment, tmp_path / "up.log", wait_for=None)
    up.wait_for_children("nats-server", "-m gateway")
    family = up.family()
    up.process.kill()
    up.process.wait()
    assert ended(family, 6) == []


def ctrl_c(up: Up, *, statuses: tuple[int, ...]) -> None:
    family = up.family()
    begun = time.monotonic()
    up.process.send_signal(signal.SIGINT)
    try:
        assert up.process.wait(LONG_SECS) in statuses, up.said
        assert time.monotonic() - begun < CTRL_C_SECS, up.said
    finally:
        up.process.kill()
        up.process.wait()
    assert ended(family, 1) == []
    assert "Traceback" not in up.said


@pytest.mark.parametrize("words", [("watchdog",), ("nats-server",), ("-m gateway", "-m gpu_worker")])
def test_ctrl_c_while_it_starts(environment: dict[str, str], tmp_path: Path, words: tuple[str, ...]) -> None:
    up = Up(environment, tmp_path / "up.log", wait_for=None)
    up.wait_for_children(*words)
    ctrl_c(up, statuses=(0, 130))


def test_ctrl_c_while_the_gateway_does_not_come_up(environment: dict[str, str], tmp_path: Path) -> None:
    """Another stream has its subjects: gateway and worker end again and again."""
    environment["NATS_REPLICAS"] = "3"
    up = Up(environment, tmp_path / "up.log", wait_for="gateway exited with status 1")
    ctrl_c(up, statuses=(0,))


def test_ctrl_c_while_a_model_is_downloaded(environment: dict[str, str], tmp_path: Path) -> None:
    asked, over = threading.Event(), threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"x" * 1000)
            asked.set()
            over.wait(LONG_SECS)

        def log_message(self, format: str, *args: object) -> None:
            """Not to the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment["MODEL_BASE_URL"] = f"http://127.0.0.1:{server.server_port}"
        up = Up(environment, tmp_path / "up.log", model="tiny", wait_for=None)
        assert asked.wait(LONG_SECS)
        ctrl_c(up, statuses=(130,))
        over.set()
        server.shutdown()


@pytest.fixture
def long_audio(tmp_path: Path) -> Path:
    """Speech for many seconds of work: the same recording again and again."""
    path = tmp_path / "long.wav"
    source = str(AUDIO / "english.mp3")
    command = [ffmpeg(), "-v", "error", "-stream_loop", "60", "-i", source, "-ar", "16000", str(path)]
    subprocess.run(command, check=True)
    return path


def test_ctrl_c_in_the_middle_of_a_transcription(
    environment: dict[str, str], tmp_path: Path, long_audio: Path
) -> None:
    up = Up(environment, tmp_path / "up.log", "--audio", str(long_audio), wait_for="-->")
    ctrl_c(up, statuses=(130,))


def test_ctrl_c_in_the_middle_of_an_upload(environment: dict[str, str], tmp_path: Path) -> None:
    """nats-server is frozen, so the upload stands still."""
    large = tmp_path / "large.wav"
    with large.open("wb") as file:
        file.truncate(300 * 2**20)
    up = Up(environment, tmp_path / "up.log", "--audio", str(large), wait_for=None)
    up.wait_for_children("nats-server", "-m gateway")
    [server] = [p for p in up.family() if "nats-server" in " ".join(p.cmdline())]
    store = Path(environment["DATA_DIR"]) / "jetstream"
    deadline = time.monotonic() + LONG_SECS
    while sum(f.stat().st_size for f in store.rglob("*.blk")) < 2**20:
        assert time.monotonic() < deadline, up.said
        time.sleep(0.005)
    server.suspend()
    ctrl_c(up, statuses=(130,))


def test_ctrl_c_with_everything_frozen(environment: dict[str, str], up: Up) -> None:
    for process in up.family():
        if "watchdog" not in " ".join(process.cmdline()):
            process.suspend()
    ctrl_c(up, statuses=(0,))


def test_a_second_ctrl_c_ends_at_once(environment: dict[str, str], up: Up) -> None:
    family = up.family()
    for process in family:
        if "watchdog" not in " ".join(process.cmdline()):
            process.suspend()
    begun = time.monotonic()
    up.process.send_signal(signal.SIGINT)
    up.wait_for("stopping")
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(LONG_SECS) in (0, 130)
    assert time.monotonic() - begun < 1.0 + NOISE_SECS
    assert ended(family, 1) == []


def test_clients_wait_while_the_gateway_is_started_again(environment: dict[str, str], up: Up) -> None:
    """The socket is `up`'s, so nobody is refused meanwhile."""
    up.child("gateway").kill()
    url = f"http://127.0.0.1:{environment['PORT']}/health/live"
    assert httpx.get(url, timeout=LONG_SECS).json()["status"] == "ok"
    assert (
        msgspec.json.decode((Path(environment["DATA_DIR"]) / "up.json").read_bytes())["pid"] == up.process.pid
    )


def test_it_goes_past_a_proxy(environment: dict[str, str]) -> None:
    environment["HTTP_PROXY"] = environment["http_proxy"] = f"http://127.0.0.1:{free_port()}"
    done = run(environment, "up", "--model", "demo", "--audio", str(AUDIO / "english.mp3"))
    assert done.stdout.strip() == EXPECTED_TEXT, done.stderr


def test_after_a_full_disk_it_goes_on_by_itself(environment: dict[str, str], tmp_path: Path) -> None:
    """nats-server alone would take nothing more until somebody restarts it."""
    with mounted(tmp_path / "disk", megabytes=80) as disk:
        running = Up({**environment, "DATA_DIR": str(disk)}, tmp_path / "up.log")
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{environment['PORT']}", timeout=60) as http:
                ballast = fill(disk, left=8 * 2**20)
                files = {"audio": ("a.wav", b"\0" * 20 * 2**20)}
                refused = http.post("/jobs", files=files, headers={"Prefer": "respond-async"})
                assert (refused.status_code, refused.json()["code"]) == (507, "storage_full"), refused.text
                ballast.unlink()
                running.wait_for("there is room again")
                deadline = time.monotonic() + LONG_SECS
                while (post := http.post("/jobs", files=files, headers={"Prefer": "respond-async"})).is_error:
                    assert post.status_code == 503, post.text  # nats-server is being restarted
                    assert time.monotonic() < deadline, post.text
                    time.sleep(0.2)
                assert post.status_code == 202, post.text
        finally:
            running.process.send_signal(signal.SIGTERM)
            running.process.wait(20)


async def test_the_answer_of_another_gateway_does_not_count(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up_module, "UP_TIMEOUT_SECS", 0.5)
    gateway = await asyncio.to_thread(system.gateway, INSTANCE_ID="mine")
    await up_module.wait_until_up(gateway.url, "mine")
    with pytest.raises(StartError, match="not ready"):
        await up_module.wait_until_up(gateway.url, "another")


def test_a_folder_that_cannot_be_used_is_told(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environment["DATA_DIR"] = str(tmp_path / "file" / "data")
    assert "cannot be used: Not a directory" in one_line(run(environment, "up", "--model", "demo"))


def test_ctrl_c_while_python_still_imports(environment: dict[str, str], tmp_path: Path) -> None:
    """A module that a library looks for says when, and waits."""
    slow = tmp_path / "slow"
    (slow / "rich").mkdir(parents=True)
    (slow / "rich" / "__init__.py").write_text(
        "import sys, time\nprint('importing', flush=True)\ntime.sleep(60)\n"
    )
    environment["PYTHONPATH"] = f"{slow}:{environment['PYTHONPATH']}"
    up = Up(environment, tmp_path / "up.log", wait_for="importing")
    ctrl_c(up, statuses=(130,))
