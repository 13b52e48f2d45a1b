"""The decoder process: `python -m gpu_worker.audio.decoder` gets an order as its argument and answers on stdout (protocol.py)."""

import sys

import av
import msgspec

from gpu_worker.audio.decoder.confinement import confine
from gpu_worker.audio.decoder.container import Undecodable
from gpu_worker.audio.decoder.decode import decode
from gpu_worker.audio.decoder.protocol import Order, Problem, Reply, Trouble, read_order
from gpu_worker.pcm import SAMPLE_BYTES, SAMPLE_RATE
from schemas.errors import ErrorCode

MARGIN_SECS = 60.0
"""The kernel's limit of a file lies this far behind our own."""


def main() -> None:
    """Answer one order: `decode ORDER`. With `check`, by which a machine is probed, everything is imported and nothing done."""
    if sys.argv[1] == "decode":
        sys.stdout.buffer.write(msgspec.json.encode(answer(read_order(sys.argv[2].encode()))))


def answer(order: Order) -> Reply:
    """Carry out an order in confinement."""
    confine(order.cpu_secs, int((order.max_secs + MARGIN_SECS) * SAMPLE_RATE * SAMPLE_BYTES))
    try:
        return decode(order)
    except Undecodable as why:
        return Problem(code=why.code, message=why.message)
    except av.FFmpegError as error:
        return Problem(
            code=ErrorCode.AUDIO_UNDECODABLE, message=f"The file cannot be decoded: {error.strerror}."
        )
    except MemoryError:
        message = "Decoding this file takes more memory than any recording needs."
        return Problem(code=ErrorCode.AUDIO_UNDECODABLE, message=message)
    except OSError as error:
        return Trouble(message=error.strerror or type(error).__name__)


if __name__ == "__main__":
    main()
