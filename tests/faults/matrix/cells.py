"""Which faults are tried on what, and when: pure data, and what each cell allows."""

from enum import StrEnum

import msgspec

QUEUE = 60
"""Jobs that wait while a cluster of three loses a node."""

SHORT_ACK_WAIT_SECS, DEFAULT_ACK_WAIT_SECS = 2, 30
FREEZE_SECS = 2.0 * SHORT_ACK_WAIT_SECS + 1
"""Of STOP+CONT, longer than the ack deadline; and how long nats-server and `up` are away at a TERM."""
HANDOVER_SECS = 20.0
"""With the start of a worker and a load of the model on a busy machine; far less than the default ack wait."""


class Fault(StrEnum):
    KILL = "KILL"
    """kill -9; whoever supervises it starts it again."""
    TERM = "TERM"
    """An orderly stop. Of a gateway or worker: another one is there already. Of the others: started again later."""
    STOP = "STOP+CONT"
    """Frozen for longer than the ack deadline, then thawed."""
    RESTART = "restart"
    """An orderly stop, and started again at once."""


class Part(StrEnum):
    GATEWAY = "gateway"
    WORKER = "worker"
    ENGINE = "engine"
    DECODER = "decoder"
    NATS = "nats-server"
    UP = "up"


class Phase(StrEnum):
    UPLOADING = "uploading"
    """Half of the audio is sent, some of its chunks are stored."""
    QUEUED = "queued"
    """At least one job is in no worker's hand; the others wait for a model that is being loaded."""
    PREPARING = "preparing"
    """The decoder runs."""
    LOADING = "loading"
    """The engine's process is there, the model is not loaded yet."""
    TRANSCRIBING = "transcribing"
    """The first segment is told."""
    ENDING = "ending"
    """The record says done, the terminal event is not stored."""
    ACKING = "ending, acknowledging"
    """The terminal event is stored, the audio is gone, the message is not acknowledged."""
    WEBHOOK = "webhook pending"
    """The receiver has refused the first try; the second is due in some seconds."""
    QUEUE = f"queue of {QUEUE}"


class Cell(msgspec.Struct, frozen=True):
    """One row of the table."""

    fault: Fault
    part: Part
    phase: Phase
    servers: int = 1
    """nats-servers: 1, or a cluster of 3."""

    @property
    def name(self) -> str:
        where = f" ({self.servers} servers)" if self.servers > 1 else ""
        return f"{self.fault} {self.part} {self.phase}{where}"

    @property
    def attempts_allowed(self) -> int:
        """1, but where a job may itself be what has ended its worker.

        A worker that is not heard of in the middle of a transcription has been ended by the job (out of memory) or by
        somebody else, and nobody can tell: that costs the one attempt, so that a job that ends every worker ends too.
        """
        is_silent = self.part in (Part.WORKER, Part.UP) and self.fault in (Fault.KILL, Fault.STOP)
        return 2 if is_silent and self.phase is Phase.TRANSCRIBING else 1

    @property
    def ack_wait_secs(self) -> int:
        """The default where an orderly stop gives jobs back, so that waiting for the deadline is seen; else a short one."""
        is_orderly = self.part in (Part.WORKER, Part.UP) and self.fault in (Fault.TERM, Fault.RESTART)
        return DEFAULT_ACK_WAIT_SECS if is_orderly else SHORT_ACK_WAIT_SECS

    @property
    def recovery_allowed_secs(self) -> float | None:
        """Of a worker's orderly stop. Not of `up`: its nats-server stops too, and forgets there what was given back."""
        is_handed_over = self.part is Part.WORKER and self.fault in (Fault.TERM, Fault.RESTART)
        return HANDOVER_SECS if is_handed_over else None

    @property
    def instances(self) -> int:
        """How many gateways or workers there are, where the part is one of them."""
        has_successor = self.part in (Part.GATEWAY, Part.WORKER) and self.fault in (Fault.TERM, Fault.STOP)
        return 2 if has_successor else 1


LEFT_OUT: dict[tuple[Part, Phase], str] = {
    (Part.WORKER, Phase.UPLOADING): "no worker knows of a job that is not submitted yet",
    (Part.WORKER, Phase.WEBHOOK): "the job has left the worker",
    (Part.ENGINE, Phase.UPLOADING): "no engine has to do with it",
    (Part.ENGINE, Phase.QUEUED): "the same as loading: that is what the jobs wait for here",
    (Part.ENGINE, Phase.ACKING): "the same as ending: the engine is idle",
    (Part.ENGINE, Phase.WEBHOOK): "the job has left the engine",
    (Part.GATEWAY, Phase.ACKING): "the same as ending: no gateway has to do with it",
    (Part.UP, Phase.ACKING): "aimed at by ending: nothing can be held between its own parts",
    **{
        (Part.DECODER, phase): "the decoder runs while a job is prepared, and at no other time"
        for phase in Phase
        if phase is not Phase.PREPARING
    },
}
NO_RESTART = {
    (Part.DECODER, phase): "nobody but the worker starts the decoder again, which is the TERM row"
    for phase in Phase
} | {(Part.ENGINE, Phase.ENDING): "the worker could not hear of it: its connection is what is held"}
"""Where only the restart is left out."""

SINGLE = [
    Cell(fault, part, phase)
    for part in Part
    for phase in Phase
    for fault in Fault
    if phase is not Phase.QUEUE
    and (part, phase) not in LEFT_OUT
    and not (fault is Fault.RESTART and (part, phase) in NO_RESTART)
]
CLUSTER = [
    *(Cell(fault, Part.NATS, Phase.QUEUE, servers=3) for fault in (Fault.KILL, Fault.STOP, Fault.RESTART)),
    *(
        Cell(fault, Part.NATS, phase, servers=3)
        for phase in (Phase.UPLOADING, Phase.TRANSCRIBING, Phase.ENDING, Phase.WEBHOOK)
        for fault in (Fault.KILL, Fault.STOP)
    ),
]
"""KILL: the leader of WHISPER_JOBS, started again. STOP+CONT: the leader frozen. Restart: all three, one after the other."""
CELLS = SINGLE + CLUSTER


def selected(only: str) -> list[Cell]:
    """The cells whose name has each of these words: whole ones, or parts of words where no cell has it as a whole."""
    known = {word for cell in CELLS for word in _words(cell)}

    def has(cell: Cell, word: str) -> bool:
        return word in (_words(cell) if word in known else cell.name.lower())

    return [cell for cell in CELLS if all(has(cell, word) for word in only.lower().split())]


def _words(cell: Cell) -> list[str]:
    return cell.name.lower().replace(",", "").split()
