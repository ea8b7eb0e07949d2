# Fusing, scoring and training small networks on a CPU. Build from the repository's root:
#   docker build -f docker/cpu.Dockerfile -t fusioncli:cpu .
FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/fusioncli
COPY constraints.txt pyproject.toml README.md LICENSE cli.py ./
COPY pipeline pipeline
COPY fusion fusion
COPY manifests manifests
RUN /opt/fusioncli/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.12-slim
RUN useradd --create-home fusion
COPY --from=build /opt/fusioncli /opt/fusioncli
ENV PATH=/opt/fusioncli/bin:$PATH FUSIONCLI_DATA=/data
USER fusion
WORKDIR /work
VOLUME ["/data", "/work"]
HEALTHCHECK CMD ["fusioncli", "--quiet", "nets", "--json", "-"]
ENTRYPOINT ["fusioncli"]
