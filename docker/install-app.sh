#!/bin/sh
# The application and what it needs in a virtual environment: install-app.sh VENV [WHEEL_FOLDER]
#
# Packages are those of requirements/run.lock, by hash. A wheel of pywhispercpp in WHEEL_FOLDER takes the place of the
# registry's, which computes on the CPU alone.
set -eu

venv=$1
wheels=${2:-}
here=$(cd "$(dirname "$0")/.." && pwd)
"${PYTHON:-python3}" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
pip install --no-cache-dir --require-hashes --no-deps -r "$here/requirements/run.lock"
if [ -n "$wheels" ]; then
    pip install --no-cache-dir --no-deps --force-reinstall "$wheels"/pywhispercpp-*.whl
fi
pip install --no-cache-dir --no-deps --no-build-isolation "$here"
