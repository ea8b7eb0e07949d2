"""Running exported networks: ONNX Runtime, OpenVINO and TorchScript behind one call."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusion.thread_share import share
from pipeline.errors import InputError, MissingPackage, WeightsError, closest

Engine = Callable[[Tensor, Tensor, Tensor | None], Tensor]
# of export.json, what is needed to run a network
SAID = {"engine": str, "file": str, "precision": str, "weights_sha256": str, "whole_images": bool}


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Turn what an engine says of a file it cannot read, in a class of its own, into WeightsError."""
    try:
        yield
    except Exception as error:
        raise WeightsError(f"{path}: damaged or of another engine; export again") from error


class OnnxEngine:
    """ONNX Runtime on the CPU with torch's number of threads, or a share of them. Safe to call from several threads."""

    def __init__(self, path: Path, at_once: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingPackage("the engine onnx needs onnxruntime: pip install 'fusioncli[export]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = share(at_once)
        options.log_severity_level = 3
        with _whole(path):
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, visible: Tensor, infrared: Tensor, text: Tensor | None = None) -> Tensor:
        inputs = {"visible": visible.contiguous().numpy(), "infrared": infrared.contiguous().numpy()}
        return torch.from_numpy(self.session.run(None, inputs)[0])


class OpenVinoEngine:
    """OpenVINO on the CPU in single precision. A compiled model keeps one request for each thread that calls."""

    def __init__(self, path: Path, at_once: int = 1) -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingPackage("the engine openvino needs openvino: pip install 'fusioncli[export]'") from error
        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # its default on some processors is bfloat16, which is visible
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": at_once,
        }
        with _whole(path):
            self.model = core.compile_model(core.read_model(str(path)), "CPU", settings)
        self.tensor: Any = openvino.Tensor
        self.requests = threading.local()

    def __call__(self, visible: Tensor, infrared: Tensor, text: Tensor | None = None) -> Tensor:
        if not hasattr(self.requests, "one"):
            self.requests.one = self.model.create_infer_request()
        request, fused = self.requests.one, torch.empty(visible.shape)
        images = [image.contiguous() for image in (visible, infrared)]  # held until the end: their memory is only lent
        for place, image in enumerate(images):
            request.set_input_tensor(place, self.tensor(image.numpy(), shared_memory=True))
        request.set_output_tensor(self.tensor(fused.numpy(), shared_memory=True))  # copying takes longer than a layer
        request.infer()
        return fused


class TorchScriptEngine:
    """A traced module on the CPU, with the threads PyTorch has where it is called."""

    def __init__(self, path: Path, at_once: int = 1) -> None:
        with _whole(path):
            self.module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]

    def __call__(self, visible: Tensor, infrared: Tensor, text: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            fused: Tensor = self.module(visible, infrared)
        return fused


ENGINES: dict[str, Callable[[Path, int], Engine]] = {
    "onnx": OnnxEngine,
    "openvino": OpenVinoEngine,
    "torchscript": TorchScriptEngine,
}


def check_engine(name: str) -> None:
    """Raises InputError for an engine that there is not; torch is one."""
    known = ("torch", *ENGINES)
    if name not in known:
        raise InputError(f"--engine {name}: no such engine{closest(name, known)}; there are: {', '.join(known)}")


def open_engine(name: str, path: Path, at_once: int = 1) -> Engine:
    """The engine ``name`` on an exported file, for ``at_once`` threads that call it.

    It is called with visible (N, 3, H, W), infrared (N, 1, H, W), floats 0..1 on the CPU, and None in the text's place, and
    gives (N, 3, H, W) in 0..1. Raises InputError for an unknown name, MissingPackage, WeightsError for a damaged file.
    """
    check_engine(name)
    return ENGINES[name](path, at_once)


def open_export(folder: str | Path, engine: str, tiled: bool = False, at_once: int = 1) -> tuple[Engine, str]:
    """The engine on a folder made by ``fusioncli export``, and what identifies its weights.

    Raises WeightsError: no export there, one for another engine, of another format, or without its file; MissingPackage.
    Raises InputError for tiles with a network that reads sums over whole images: only PyTorch can share those.
    """
    from fusion.export import EXPORT, FORMAT

    path = Path(folder) / EXPORT
    hint = f"make one with `fusioncli export --weights {folder} --to {engine} --out DIR` and give --weights DIR"
    check_engine(engine)
    if not path.is_file():
        raise WeightsError(f"{folder}: no {EXPORT}; the engine {engine} reads exported networks: {hint}")
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: not JSON ({error})") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise WeightsError(f"{path}: not an export of this version (format {FORMAT})")
    for name, kind in SAID.items():
        if not isinstance(described.get(name), kind):
            raise WeightsError(f"{path}: does not say its {name}; export again")
    if described["engine"] != engine:
        raise WeightsError(f"{folder}: exported for {described['engine']}; use --engine {described['engine']}")
    file = Path(folder) / Path(described["file"]).name
    if not file.is_file():
        raise WeightsError(f"{file}: missing; export again")
    if tiled and described["whole_images"]:
        raise InputError(f"--tile with --engine {engine}: the tiles of this network would differ; use --engine torch")
    return open_engine(engine, file, at_once), f"{described['weights_sha256']} {engine} {described['precision']}"
