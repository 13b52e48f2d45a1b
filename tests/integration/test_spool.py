"""Spool folders belong to living processes: by a lock, not by a process id."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpu_worker.spool import ABANDONED_SECS, PREFIX, Spool

OTHER = """
import sys
from pathlib import Path
from gpu_worker.spool import Spool
spool = Spool(Path(sys.argv[1]))
print(spool.folder("job"), flush=True)
sys.stdin.read()
"""


@contextmanager
def other_worker(root: Path, *wrapper: str) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """Another process with a job's folder in the spool."""
    command = [*wrapper, sys.executable, "-c", OTHER, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())


def test_a_killed_workers_folder_goes_and_a_living_ones_stays(tmp_path: Path) -> None:
    with other_worker(tmp_path) as (_, of_the_living):
        with other_worker(tmp_path) as (dead, of_the_dead):
            dead.kill()
        (tmp_path / "somebody else's").mkdir()
        mine = Spool(tmp_path).folder("job")
        assert (mine.exists(), of_the_living.exists(), of_the_dead.exists()) == (True, True, False)
        assert (tmp_path / "somebody else's").exists()


def test_the_process_id_of_a_worker_in_another_container_says_nothing(tmp_path: Path) -> None:
    """Both have process id 1 or so, each in a namespace of its own; the killed one's folder goes all the same."""
    wrapper = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine gives us no process namespaces")
    with other_worker(tmp_path, *wrapper) as (dead, of_the_dead):
        dead.kill()
    with other_worker(tmp_path, *wrapper) as (_, of_the_living):
        assert (of_the_living.exists(), of_the_dead.exists()) == (True, False)
        Spool(tmp_path).check()
        assert of_the_living.exists()


def test_a_folder_without_a_lock_goes_when_it_is_old(tmp_path: Path) -> None:
    new, old = tmp_path / f"{PREFIX}123-job-new", tmp_path / f"{PREFIX}123-job-old"
    for folder in (new, old):
        folder.mkdir()
    long_ago = time.time() - ABANDONED_SECS - 60
    os.utime(old, (long_ago, long_ago))
    Spool(tmp_path).check()
    assert (new.exists(), old.exists()) == (True, False)


def test_a_spool_that_somebody_tidies_up_is_made_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    first = spool.folder("job")
    subprocess.run(["rm", "-r", str(tmp_path / "spool")], check=True)
    assert not first.exists()
    assert spool.folder("job").exists()
    spool.close()
    assert list((tmp_path / "spool").iterdir()) == []
