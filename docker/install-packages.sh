#!/bin/sh
# Debian's or Ubuntu's packages for one stage of the image: install-packages.sh build|runtime
set -eu

case $1 in
    build) packages="build-essential ca-certificates cmake ninja-build" ;;
    runtime) packages="ca-certificates" ;;
    *) echo "install-packages.sh: build or runtime, not $1" >&2; exit 2 ;;
esac
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # the list is meant to be split
apt-get install -qq -y --no-install-recommends $packages
rm -rf /var/lib/apt/lists/*
