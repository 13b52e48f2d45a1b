"""Write docs/asyncapi.json: `python -m asyncapi`."""

import sys
from pathlib import Path

from asyncapi.document import encoded

FILE = Path(__file__).parents[1] / "docs" / "asyncapi.json"

if __name__ == "__main__":
    FILE.write_bytes(encoded())
    sys.stdout.write(f"{FILE} written\n")
