"""What the decoder process may do: compute, read one file, write the files of samples, and nothing else.

Bytes of strangers go through a large C library here. Whoever takes this process over finds no credentials (its environment is
clean, gpu_worker/audio/decoding.py), no network, no other program, and small limits. There is no package that does this without
libraries of the system, so the few calls are made by ctypes.
"""

import ctypes
import platform
import resource
import struct
import sys

MEMORY_BYTES = 1024 * 1024 * 1024
"""Address space. Python, numpy and FFmpeg take 200 MB of it before they begin."""
OPEN_FILES = 160
"""The file, the samples of up to 64 channels, pipes, and what Python opens by itself."""
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
"""From linux/prctl.h and linux/seccomp.h."""
_ALLOW, _REFUSE = 0x7FFF_0000, 0x0005_0001
"""SECCOMP_RET_ALLOW, and SECCOMP_RET_ERRNO with EPERM."""
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
"""BPF: load a word, jump if equal, return."""
_CALLS = {
    "x86_64": (0xC000_003E, (41, 42, 49, 53, 59, 101, 322, 425)),
    "aarch64": (0xC000_00B7, (198, 203, 200, 199, 221, 117, 281, 425)),
}
"""For each machine its audit number, and its numbers of socket, connect, bind, socketpair, execve, ptrace, execveat, io_uring_setup."""


def confine(cpu_secs: int, file_bytes: int) -> None:
    """Give up all rights of this process that decoding does not need. Cannot be undone. Raises OSError."""
    _limit(resource.RLIMIT_CPU, cpu_secs)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":
        # macOS refuses limits of the address space.
        _limit(resource.RLIMIT_AS, MEMORY_BYTES)
        _refuse_calls()


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def _refuse_calls() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs is refused")
    if platform.machine() not in _CALLS:
        return
    program = bpf(*_CALLS[platform.machine()])
    code = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    # A kernel without seccomp, or a container that forbids it, leaves the other walls standing.
    libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(fprog), 0, 0)


def bpf(machine: int, refused: tuple[int, ...]) -> bytes:
    """Return the filter: system calls of another machine type and those of `refused` give EPERM, all others are allowed."""
    instructions = [(_LOAD, 0, 0, 4), (_EQUAL, 0, len(refused) + 2, machine), (_LOAD, 0, 0, 0)]
    for left, number in zip(range(len(refused), 0, -1), refused, strict=True):
        instructions.append((_EQUAL, left, 0, number))
    instructions += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
