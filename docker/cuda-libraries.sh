#!/bin/sh
# What a bare nvcc lacks for linking ggml-cuda: cuda-libraries.sh FOLDER
#
# cuBLAS with its headers comes from the pip package nvidia-cublas, of the toolkit's own minor version. libcuda.so.1
# belongs to the driver and is not on a machine without a GPU: the linker gets a library of that name with the functions that
# ggml-cuda calls. Without them the linker leaves libcuda.so.1 out, and the first call fails on the machine with the GPU.
# NVIDIA's development images have all this; only `make cuda-wheel` on other machines needs it.
set -eu

folder=$1
python=${PYTHON:-python3}
version=$(nvcc --version | sed -n 's/.*release \([0-9]*\.[0-9]*\).*/\1/p')
mkdir -p "$folder/include" "$folder/lib"
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "$folder/packages" "nvidia-cublas==$version.*"
library=$(find "$folder/packages" -name 'libcublas.so.*' | head -n 1)
[ -n "$library" ] || { echo "cuda-libraries.sh: nvidia-cublas $version has no libcublas" >&2; exit 1; }
packages=$(cd "$(dirname "$library")" && pwd)
cp -Lf "$packages"/../include/*.h "$folder/include/"
for name in libcublas libcublasLt; do
    ln -sf "$(find "$packages" -name "$name.so.*" | head -n 1)" "$folder/lib/$name.so"
done
for function in cuDeviceGet cuDeviceGetAttribute cuGetErrorString cuMemAddressFree cuMemAddressReserve cuMemCreate \
    cuMemGetAllocationGranularity cuMemMap cuMemRelease cuMemSetAccess cuMemUnmap; do
    echo "void $function(void) {}"
done | cc -shared -x c -Wl,-soname,libcuda.so.1 -o "$folder/lib/libcuda.so" -
