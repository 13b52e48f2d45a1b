"""The faults themselves: real signals, by process id, to processes that the stage has started."""

import signal
import time
from collections.abc import Callable

import httpx
import psutil

from tests.faults.matrix.cells import FREEZE_SECS, Cell, Fault, Part
from tests.faults.matrix.cluster import Cluster
from tests.faults.matrix.stage import Stage
from tests.faults.matrix.view import View, wait_until

NODE_FREEZE_SECS = 10.0
NODE_DOWN_SECS = 3.0
MODEL_SECS = 30
WHOLE_SECS = 60


def strike(stage: Stage, cell: Cell, signalled: Callable[[], None]) -> None:
    """Do it. `signalled` is called right after the signal, and lets go on what was held until then."""
    if cell.fault is Fault.STOP:
        _freeze(stage, cell, signalled)
    elif cell.part is Part.ENGINE and cell.fault is Fault.RESTART:
        _reload(stage.url(), signalled)
    else:
        _end(stage, cell, signalled)


def _freeze(stage: Stage, cell: Cell, signalled: Callable[[], None]) -> None:
    victims = stage.victims(cell.part)
    for victim in victims:
        victim.suspend()
    signalled()
    time.sleep(FREEZE_SECS)  # nothing can be waited for: it is the silence that matters
    for victim in victims:
        if victim.is_running():
            victim.resume()


def _end(stage: Stage, cell: Cell, signalled: Callable[[], None]) -> None:
    victim = stage.victims(cell.part)[0]
    stage.is_asked_to_end(victim.pid)
    victim.send_signal(_signal_of(cell))
    signalled()
    if cell.part in (Part.ENGINE, Part.DECODER):
        return  # the worker must see to it
    stage.has_ended(cell)
    if cell.fault is Fault.TERM and cell.part in (Part.NATS, Part.UP):
        time.sleep(FREEZE_SECS)  # away for a while, as for an upgrade
    stage.started_again(cell)


def _signal_of(cell: Cell) -> signal.Signals:
    if cell.fault is Fault.KILL:
        return signal.SIGKILL
    return signal.SIGINT if (cell.part, cell.fault) == (Part.UP, Fault.RESTART) else signal.SIGTERM


def _reload(url: str, signalled: Callable[[], None]) -> None:
    """An engine is restarted by handing the GPU back and loading again."""

    def state() -> str:
        return str(httpx.get(f"{url}/model/status", timeout=MODEL_SECS).json()["state"])

    httpx.post(f"{url}/model/unload", params={"force": "true"}, timeout=MODEL_SECS).raise_for_status()
    signalled()
    wait_until(lambda: state() == "unloaded", MODEL_SECS, "the model is unloaded")
    httpx.post(f"{url}/model/load", timeout=MODEL_SECS).raise_for_status()


def strike_cluster(cluster: Cluster, view: View, fault: Fault, signalled: Callable[[], None]) -> None:
    """The node that leads the queue is killed or frozen; or all are restarted, one after the other."""
    leader = cluster.nodes[view.leader()]
    if fault is Fault.KILL:
        leader.stop(signal.SIGKILL)
        signalled()
        time.sleep(NODE_DOWN_SECS)  # longer than it takes to elect another
        leader.start()
    elif fault is Fault.STOP:
        frozen = psutil.Process(leader.pid)
        frozen.suspend()
        signalled()
        time.sleep(NODE_FREEZE_SECS)
        frozen.resume()
    else:
        for node in cluster.nodes.values():
            node.stop(signal.SIGTERM)
            signalled()
            node.start()
            wait_until(view.is_whole, WHOLE_SECS, "all replicas are current")
