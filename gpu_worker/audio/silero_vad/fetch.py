"""Fetch the voice model from the package that carries it: `make voice-model`. Development only; nothing imports it.

The package is downloaded without its dependencies and never installed.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = "silero-vad==6.2.3"
MODEL = "silero_vad_16k_sequence.onnx"


def published_hash() -> str:
    """Return the SHA-256 that README.md names."""
    found = re.search(r"SHA-256: `([0-9a-f]{64})`", (HERE / "README.md").read_text())
    if found is None:
        raise ValueError("README.md names no hash")
    return found[1]


def main() -> int:
    """Write the file and return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "download", "--no-deps", "--dest", folder, PACKAGE], check=True)
        [wheel] = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(f"silero_vad/data/{MODEL}")
    if hashlib.sha256(content).hexdigest() != published_hash():
        sys.stderr.write(f"{PACKAGE} has another {MODEL} than README.md names\n")
        return 1
    (HERE / MODEL).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
