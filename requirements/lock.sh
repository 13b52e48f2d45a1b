#!/bin/sh
# Write the lock files with hashes and without any registry address. $1 is the uv command.
set -eu
cd "$(dirname "$0")/.."
compile() {
    "$UV" pip compile "$@" --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-annotate --no-header
}
UV=$1
rm -f requirements/run.lock requirements/dev.lock requirements/speech.lock
compile pyproject.toml --group build -o requirements/run.lock
compile pyproject.toml --group build --group dev -o requirements/dev.lock
compile --group speech -o requirements/speech.lock
if grep -nE '://|--index|--find-links' requirements/*.lock; then
    echo "a lock file names a registry" >&2
    exit 1
fi
