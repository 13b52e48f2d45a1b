#!/bin/sh
# A Python that the project supports, whatever the distribution has: install-python.sh FOLDER
#
# FOLDER/bin/python is it. Ubuntu 20.04 (CUDA 11.8) and 22.04 have older ones, so uv brings a relocatable build; it is a
# static program in a wheel, taken from the package registry with the distribution's own pip. Where python3 is new enough
# it is used as it is.
set -eu

folder=$1
version=${PYTHON_VERSION:-3.12}
mkdir -p "$folder/bin"
if python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
    ln -sf "$(python3 -c 'import sys; print(sys.executable)')" "$folder/bin/python"
    exit 0
fi
if ! command -v uv > /dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends python3-pip
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet uv
fi
UV_PYTHON_INSTALL_DIR="$folder" uv python install --quiet "$version"
ln -sf "$(UV_PYTHON_INSTALL_DIR="$folder" uv python find "$version")" "$folder/bin/python"
