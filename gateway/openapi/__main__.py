"""Write docs/openapi.json: `python -m gateway.openapi`."""

import sys
from pathlib import Path

from gateway.openapi.document import encoded

FILE = Path(__file__).parents[2] / "docs" / "openapi.json"

if __name__ == "__main__":
    FILE.write_bytes(encoded())
    sys.stdout.write(f"{FILE} written\n")
