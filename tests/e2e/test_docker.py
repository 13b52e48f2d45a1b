"""The image's build: its scripts run here where they can, its files are sound, and nats-server takes its configurations."""

import asyncio
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import zipfile
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from broker.connection import connect
from broker.settings import BrokerSettings
from broker.topology.ensure import ensure
from standalone import nats_server

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SCRIPTS = sorted((ROOT / "docker").glob("*.sh"))
SLOW = pytest.mark.skipif(
    "DOCKER_TESTS" not in os.environ, reason="minutes: make docker-test runs it, and CI does"
)


def run(*command: str, **env: str) -> str:
    environment = {**os.environ, "PYTHON": sys.executable, **env}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_each_run_step_is_a_script_that_is_there_and_executable() -> None:
    steps = re.findall(r"^RUN ((?:.*\\\n)*.*)", DOCKERFILE, re.MULTILINE)
    scripts = set(re.findall(r"[\w/]*?([\w-]+\.sh)", " ".join(steps)))
    assert scripts == {s.name for s in SCRIPTS} - {"cuda-libraries.sh"}
    assert all(os.access(script, os.X_OK) for script in SCRIPTS)


def test_everything_that_is_copied_is_there_and_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        *sources, _target = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in allowed, source


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.name)
def test_scripts_are_plain_sh(script: Path) -> None:
    run("sh", "-n", str(script))


def test_the_python_that_is_found_is_new_enough(tmp_path: Path) -> None:
    run("docker/install-python.sh", str(tmp_path))
    assert (
        run(str(tmp_path / "bin" / "python"), "-c", "import sys; print(sys.version_info >= (3, 11))")
        == "True\n"
    )


@SLOW
@pytest.mark.timeout(900)  # a compiler builds whisper.cpp: a minute on a fast machine
def test_the_application_installs_with_a_wheel_that_was_built_here_and_finds_its_way(tmp_path: Path) -> None:
    """As the stages engine and app do it, on the CPU: build the wheel, install everything, load the engine."""
    run("docker/build-wheel.sh", "cpu", str(tmp_path / "wheels"))
    [wheel] = (tmp_path / "wheels").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("libwhisper.so") for name in names)
    run("docker/install-app.sh", str(tmp_path / "venv"), str(tmp_path / "wheels"))
    python = str(tmp_path / "venv" / "bin" / "python")
    # Imports, which a wheel without $ORIGIN as its run path does not; and from the virtual environment alone.
    where = run(
        python, "-c", "import os; os.chdir('/'); import _pywhispercpp as p; print(p.__file__)", PYTHONPATH=""
    )
    assert where.startswith(str(tmp_path / "venv"))
    command = str(tmp_path / "venv" / "bin" / "whisper-jetstream")
    assert run(command, "model", "fetch", "demo", MODELS_DIR=str(tmp_path)).endswith("ggml-demo.bin\n")


@SLOW
@pytest.mark.timeout(900)  # packages are downloaded
@pytest.mark.skipif(shutil.which("apt-get") is None or os.geteuid() != 0, reason="needs apt-get and root")
def test_the_build_packages_install() -> None:
    run("docker/install-packages.sh", "build")


def certificate(folder: Path) -> dict[str, str]:
    key, cert = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*new, "-keyout", str(key), "-out", str(cert), *subject], check=True, capture_output=True)
    return {"NATS_CERT": str(cert), "NATS_KEY": str(key)}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def production(tmp_path: Path) -> dict[str, str]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    words = {
        f"{who}_PASSWORD": f"secret-of-{who.lower()}"
        for who in ("WHISPER", "OPERATOR", "PUBLISHER", "CLUSTER")
    }
    places = {
        "NATS_PORT": free_port(),
        "NATS_STORE": str(tmp_path / "store"),
        "NATS_NAME": "n1",
        "CLUSTER_PORT": free_port(),
    }
    routes = {f"ROUTE_{n}": f"nats://cluster:secret-of-cluster@127.0.0.1:{free_port()}" for n in (1, 2)}
    return {**certificate(tmp_path), **words, **places, **routes}


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "nats").glob("*.conf")))
def test_nats_server_takes_each_configuration(production: dict[str, str], name: str) -> None:
    run(nats_server.binary(), "-t", "--config", f"nats/{name}", **production)


async def connected(production: dict[str, str], user: str = "") -> Client:
    who = f"{user}:{production[f'{user.upper()}_PASSWORD']}@" if user else ""
    return await nats.connect(
        f"tls://{who}127.0.0.1:{production['NATS_PORT']}",
        tls=ssl.create_default_context(cafile=production["NATS_CERT"]),
        allow_reconnect=False,
    )


async def test_the_production_server_lets_each_user_do_what_it_may(
    production: dict[str, str], tmp_path: Path
) -> None:
    config = (
        (ROOT / "nats" / "production.conf").read_text().replace("127.0.0.1:8222", f"127.0.0.1:{free_port()}")
    )
    (tmp_path / "production.conf").write_text(config)
    command = [nats_server.binary(), "--addr", "127.0.0.1", "--config", str(tmp_path / "production.conf")]
    server = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **production}, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        settings = BrokerSettings(
            nats_url=f"tls://whisper:secret-of-whisper@127.0.0.1:{production['NATS_PORT']}",
            nats_tls_ca=production["NATS_CERT"],
        )
        async with connect(settings, "gateway") as (_, js):
            await ensure(js, settings)
        publisher = await connected(production, "publisher")
        js = publisher.jetstream()
        store = await js.object_store("WHISPER_AUDIO")
        await store.put("job1", b"audio")
        await js.publish("whisper.jobs.submit.job1", b"{}")
        events = await js.subscribe(
            "whisper.events.job.job1.*", stream="WHISPER_EVENTS", ordered_consumer=True
        )
        assert (await events.next_msg(timeout=5)).subject.endswith(".queued")
        with pytest.raises(nats.errors.TimeoutError):
            await publisher.request("$JS.API.STREAM.PURGE.WHISPER_JOBS", b"", timeout=1)
        await publisher.close()
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
            await connected(production)
    finally:
        server.terminate()
        await server.wait()
