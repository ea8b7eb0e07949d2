"""What this machine can run, and what to install for the rest."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from pipeline.pairs import named_root


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report: what was looked for, whether it is there, what was found, what to do about it."""

    what: str
    ok: bool
    found: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class Extra:
    """An optional part: the modules it needs, all of them, and what it is for."""

    name: str
    modules: tuple[str, ...]
    purpose: str


EXTRAS = (
    Extra(name="clip", modules=("open_clip",), purpose="CLIP text embeddings (caption --embedder clip)"),
    Extra(name="vllm", modules=("vllm",), purpose="captions by Qwen2-VL in this process (caption --captioner vllm)"),
    Extra(name="server", modules=("httpx",), purpose="captions from a running server (caption --captioner server)"),
    Extra(
        name="transformers",
        modules=("transformers",),
        purpose="Qwen2-VL without vLLM (--captioner transformers)",
    ),
    Extra(name="ray", modules=("ray",), purpose="captions on a Ray cluster (caption --runner ray)"),
    Extra(name="export", modules=("onnx", "onnxruntime", "openvino"), purpose="export and the engines onnx, openvino"),
    Extra(name="video", modules=("av",), purpose="fusing videos"),
    Extra(name="demo", modules=("starlette", "uvicorn"), purpose="the web page"),
    Extra(name="quality", modules=("brisque",), purpose="the metric BRISQUE"),
    Extra(name="downstream", modules=("pycocotools", "transformers"), purpose="detection and segmentation in bench"),
    Extra(name="trackers", modules=("tensorboard", "wandb"), purpose="training curves elsewhere than in the log"),
)


def examine(data: Path | None = None) -> list[Finding]:
    """Look at the interpreter, torch, the accelerator, memory, the extras and the data folder; change nothing.

    ``data`` is the data root to look for; default FUSIONCLI_DATA, else ``data``.
    """
    return [_python(), _torch(), _accelerator(), _memory(), *map(_extra, EXTRAS), _data(data)]


def _python() -> Finding:
    return Finding(
        what="Python", ok=True, found=f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )


def _torch() -> Finding:
    import torch

    threads = torch.get_num_threads()
    return Finding(what="PyTorch", ok=True, found=f"{torch.__version__}, {threads} threads of {os.cpu_count()} cores")


def _accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        return Finding(what="Accelerator", ok=True, found=names)
    if torch.backends.mps.is_available():
        return Finding(what="Accelerator", ok=True, found="Apple GPU (mps)")
    return Finding(
        what="Accelerator",
        ok=False,
        found="none",
        advice="fusing and the edge networks run well on the CPU; train the 40 M teacher and run Qwen2-VL on a GPU",
    )


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    ok = total >= 4
    return Finding(
        what="Memory", ok=ok, found=f"{total:.1f} GiB", advice="" if ok else "use --tile 512 for large images"
    )


def _extra(extra: Extra) -> Finding:
    missing = [module for module in extra.modules if util.find_spec(module) is None]
    if missing:
        advice = f"for {extra.purpose}: pip install 'fusioncli[{extra.name}]'"
        return Finding(what=extra.name, ok=False, found=f"not installed ({', '.join(missing)})", advice=advice)
    return Finding(what=extra.name, ok=True, found=", ".join(_version(module) for module in extra.modules))


def _version(module: str) -> str:
    distributions = metadata.packages_distributions().get(module, [module])
    return f"{distributions[0]} {metadata.version(distributions[0])}"


def _data(option: Path | None) -> Finding:
    folder = named_root(option)
    if folder.is_dir():
        return Finding(what="Data root", ok=True, found=str(folder))
    advice = "give --root DIR or set FUSIONCLI_DATA; `fusioncli data list` says how each data set lies there"
    return Finding(what="Data root", ok=False, found=f"{folder} does not exist", advice=advice)
