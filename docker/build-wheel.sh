#!/bin/sh
# Build pywhispercpp's wheel from its source distribution: build-wheel.sh cuda|cpu FOLDER
#
# The version and the hash of the source are those of requirements/run.lock. What the environment may set:
#   CUDA_ARCHITECTURES  GPU architectures, as CMake takes them (75: RTX 2080, T4; "75;86;89" for several)
#   CUDA_LIBRARIES      a folder made by cuda-libraries.sh, where the toolkit has no cuBLAS of its own
#   JOBS                how many compilers run at once
#   PYTHON              the Python that the wheel is for
#
# pywhispercpp hands every environment variable to CMake, so the build runs with an empty environment.
# A wheel built without $ORIGIN as its run path does not import: it looks for libwhisper in the build folder.
# GGML_NATIVE=OFF: the machine that builds is not the one that runs. Why the seed system's other flags are not here:
# docs/USAGE.md, "Build arguments".
set -eu

backend=$1
mkdir -p "$2"
target=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}

cmake_args='-DCMAKE_INSTALL_RPATH=$ORIGIN -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON'
set -- PATH="$PATH" HOME="${HOME:-/root}" GGML_NATIVE=OFF CMAKE_BUILD_PARALLEL_LEVEL="${JOBS:-$(nproc)}"
case $backend in
    cpu) ;;
    cuda)
        set -- "$@" GGML_CUDA=1 CMAKE_CUDA_ARCHITECTURES="${CUDA_ARCHITECTURES:-75}"
        if [ -n "${CUDA_LIBRARIES:-}" ]; then
            libraries=$(cd "$CUDA_LIBRARIES" && pwd)
            cmake_args="$cmake_args -DCUDA_cublas_LIBRARY=$libraries/lib/libcublas.so"
            cmake_args="$cmake_args -DCUDA_cublasLt_LIBRARY=$libraries/lib/libcublasLt.so"
            cmake_args="$cmake_args -DCUDA_cuda_driver_LIBRARY=$libraries/lib/libcuda.so"
            cmake_args="$cmake_args -DCMAKE_CUDA_FLAGS=-I$libraries/include -DCMAKE_CXX_FLAGS=-I$libraries/include"
        fi
        ;;
    *) echo "build-wheel.sh: cuda or cpu, not $backend" >&2; exit 2 ;;
esac

sdist=$(mktemp -d)
trap 'rm -rf "$sdist"' EXIT
sed -n '/^pywhispercpp==/,/[^\\]$/p' "$here/../requirements/run.lock" > "$sdist/pywhispercpp.txt"
"$python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
    --no-binary pywhispercpp --dest "$sdist" -r "$sdist/pywhispercpp.txt"
env -i "$@" CMAKE_ARGS="$cmake_args" "$python" -m pip wheel --disable-pip-version-check --verbose \
    --no-cache-dir --no-deps --wheel-dir "$target" "$sdist"/pywhispercpp-*.tar.gz
