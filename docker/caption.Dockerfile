# Captioning with Qwen2-VL through vLLM, and CLIP; needs an NVIDIA GPU. Build from the repository's root:
#   docker build -f docker/caption.Dockerfile -t fusioncli:caption .
FROM vllm/vllm-openai:v0.20.0
RUN useradd --create-home fusion
WORKDIR /src
COPY pyproject.toml README.md LICENSE cli.py ./
COPY pipeline pipeline
COPY fusion fusion
COPY manifests manifests
RUN pip install --no-cache-dir ".[clip,server]"
ENV FUSIONCLI_DATA=/data VLLM_NO_USAGE_STATS=1
USER fusion
WORKDIR /work
VOLUME ["/data", "/work"]
HEALTHCHECK CMD ["fusioncli", "--quiet", "doctor", "--json", "-"]
ENTRYPOINT ["fusioncli"]
CMD ["caption", "--help"]
