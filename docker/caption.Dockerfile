# Captioning with Qwen2-VL through vLLM, and CLIP; needs an NVIDIA GPU. Build from the repository's root:
#   docker build -f docker/caption.Dockerfile -t fusioncli:caption .
FROM python:3.12.8-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE cli.py ./
COPY pipeline pipeline
COPY fusion fusion
COPY manifests manifests
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM vllm/vllm-openai:v0.20.0
# Ubuntu 24.04 brings a user 1000 of its own; a volume's folder that is not there would be made for root
RUN if id ubuntu > /dev/null 2>&1; then userdel ubuntu; fi \
    && useradd --uid 1000 --create-home fusion && mkdir -p /data /work/stores /work/runs /home/fusion/.cache \
    && chown -R fusion /work /home/fusion
WORKDIR /wheels
COPY constraints.txt docker/pins.py ./
COPY --from=build /wheels ./
RUN python3 pins.py constraints.txt > pins.txt \
    && PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir -c pins.txt "./fusioncli-0.1.0-py3-none-any.whl[clip,server]"
ENV FUSIONCLI_DATA=/data VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
USER 1000
STOPSIGNAL SIGINT
WORKDIR /work
VOLUME ["/data", "/work", "/home/fusion/.cache"]
HEALTHCHECK --interval=5m --timeout=30s CMD ["fusioncli", "--help"]
ENTRYPOINT ["fusioncli"]
CMD ["caption", "--help"]
