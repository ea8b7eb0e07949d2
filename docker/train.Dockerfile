# Training on NVIDIA GPUs; the base image brings CUDA and torch. Build from the repository's root:
#   docker build -f docker/train.Dockerfile -t fusioncli:train .
FROM python:3.12.8-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE cli.py ./
COPY pipeline pipeline
COPY fusion fusion
COPY manifests manifests
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM pytorch/pytorch:2.11.0-cuda13.0-cudnn9-runtime
# Ubuntu 24.04 brings a user 1000 of its own
RUN if id ubuntu > /dev/null 2>&1; then userdel ubuntu; fi \
    && useradd --uid 1000 --create-home fusion && mkdir -p /data /work/stores /work/runs && chown -R fusion /work
WORKDIR /wheels
COPY constraints.txt docker/pins.py ./
COPY --from=build /wheels ./
RUN python3 pins.py constraints.txt > pins.txt \
    && PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir -c pins.txt "./fusioncli-0.1.0-py3-none-any.whl"
ENV FUSIONCLI_DATA=/data
USER 1000
STOPSIGNAL SIGINT
WORKDIR /work
VOLUME ["/data", "/work"]
HEALTHCHECK --interval=5m --timeout=30s CMD ["fusioncli", "--help"]
ENTRYPOINT ["accelerate", "launch", "-m", "cli"]
CMD ["train-teacher", "--help"]
