# Fusing, scoring, exporting, the demo, and training small networks on a CPU. Build from the repository's root:
#   docker build -f docker/cpu.Dockerfile -t fusioncli:cpu .
# Without an index of CPU wheels (--build-arg PIP_EXTRA_INDEX_URL=...) pip takes the larger torch with CUDA.
FROM python:3.12.8-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL=""
WORKDIR /src
RUN python -m venv /opt/fusioncli
COPY constraints.txt pyproject.toml README.md LICENSE cli.py ./
COPY pipeline pipeline
COPY fusion fusion
COPY manifests manifests
RUN /opt/fusioncli/bin/pip install --no-cache-dir -c constraints.txt ".[export,video,demo]"

FROM python:3.12.8-slim-bookworm
RUN useradd --uid 1000 --create-home fusion && mkdir -p /data /work/stores /work/runs && chown -R fusion /work
COPY --from=build /opt/fusioncli /opt/fusioncli
ENV PATH=/opt/fusioncli/bin:$PATH FUSIONCLI_DATA=/data
USER 1000
STOPSIGNAL SIGINT
WORKDIR /work
VOLUME ["/data", "/work"]
EXPOSE 7860
HEALTHCHECK --interval=5m --timeout=30s CMD ["fusioncli", "--help"]
ENTRYPOINT ["fusioncli"]
CMD ["--help"]
