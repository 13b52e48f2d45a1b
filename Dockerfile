# syntax=docker/dockerfile:1
#
# docker build -t whisper-jetstream .                     CUDA, for the RTX 2080 and other sm_75 GPUs
# docker build -t whisper-jetstream:cpu --target cpu .    no GPU
#
# Each RUN is a script of docker/, which tests/e2e/test_docker.py runs where it can.
ARG CUDA_VERSION=12.4.1
ARG CUDNN_TAG=cudnn
ARG UBUNTU_VERSION=22.04

# ---- the engine, with CUDA: changes seldom, takes half an hour
FROM nvidia/cuda:${CUDA_VERSION}-${CUDNN_TAG}-devel-ubuntu${UBUNTU_VERSION} AS engine
ARG CUDA_ARCHITECTURES=75
WORKDIR /build
COPY docker/install-packages.sh docker/install-python.sh docker/
RUN docker/install-packages.sh build && docker/install-python.sh /opt/python
COPY docker/build-wheel.sh docker/
COPY requirements/run.lock requirements/
RUN CUDA_ARCHITECTURES="${CUDA_ARCHITECTURES}" CUDA_LIBRARIES='' PYTHON=/opt/python/bin/python \
    docker/build-wheel.sh cuda /wheels

# ---- the application, for both images
FROM engine AS app-cuda
COPY docker/install-app.sh docker/
COPY pyproject.toml README.md LICENSE ./
COPY broker broker
COPY gateway gateway
COPY gpu_worker gpu_worker
COPY process process
COPY schemas schemas
COPY standalone standalone
RUN PYTHON=/opt/python/bin/python docker/install-app.sh /opt/venv /wheels

FROM ubuntu:${UBUNTU_VERSION} AS app-cpu
WORKDIR /build
COPY docker/install-packages.sh docker/install-python.sh docker/
RUN docker/install-packages.sh build && docker/install-python.sh /opt/python
COPY requirements/run.lock requirements/
COPY docker/install-app.sh docker/
COPY pyproject.toml README.md LICENSE ./
COPY broker broker
COPY gateway gateway
COPY gpu_worker gpu_worker
COPY process process
COPY schemas schemas
COPY standalone standalone
RUN PYTHON=/opt/python/bin/python docker/install-app.sh /opt/venv

# ---- CPU image
FROM ubuntu:${UBUNTU_VERSION} AS cpu
COPY docker/install-packages.sh /tmp/
RUN /tmp/install-packages.sh runtime
COPY --from=app-cpu /opt/python /opt/python
COPY --from=app-cpu /opt/venv /opt/venv
RUN useradd --uid 10001 --create-home whisper && mkdir -p /data /models && chown whisper:whisper /data /models
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HOST=0.0.0.0 DATA_DIR=/data MODELS_DIR=/models
LABEL org.opencontainers.image.title="whisper-jetstream" org.opencontainers.image.licenses="Apache-2.0"
USER 10001
VOLUME ["/data", "/models"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["whisper-jetstream", "health"]
ENTRYPOINT ["whisper-jetstream"]
CMD ["up"]

# ---- CUDA image
FROM nvidia/cuda:${CUDA_VERSION}-${CUDNN_TAG}-runtime-ubuntu${UBUNTU_VERSION} AS cuda
COPY docker/install-packages.sh /tmp/
RUN /tmp/install-packages.sh runtime
COPY --from=app-cuda /opt/python /opt/python
COPY --from=app-cuda /opt/venv /opt/venv
RUN useradd --uid 10001 --create-home whisper && mkdir -p /data /models && chown whisper:whisper /data /models
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HOST=0.0.0.0 DATA_DIR=/data MODELS_DIR=/models \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
LABEL org.opencontainers.image.title="whisper-jetstream" org.opencontainers.image.licenses="Apache-2.0"
USER 10001
VOLUME ["/data", "/models"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["whisper-jetstream", "health"]
ENTRYPOINT ["whisper-jetstream"]
CMD ["up"]
