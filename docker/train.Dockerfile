# Training on NVIDIA GPUs; the base image brings CUDA and torch. Build from the repository's root:
#   docker build -f docker/train.Dockerfile -t fusioncli:train .
FROM pytorch/pytorch:2.11.0-cuda13.0-cudnn9-runtime
RUN useradd --create-home fusion
WORKDIR /src
COPY pyproject.toml README.md LICENSE cli.py ./
COPY pipeline pipeline
COPY fusion fusion
COPY manifests manifests
RUN pip install --no-cache-dir .
ENV FUSIONCLI_DATA=/data
USER fusion
WORKDIR /work
VOLUME ["/data", "/work"]
HEALTHCHECK CMD ["fusioncli", "--quiet", "doctor", "--json", "-"]
ENTRYPOINT ["accelerate", "launch", "-m", "cli"]
CMD ["train-teacher", "--help"]
