"""Writing a network for other engines, and proving that what was written gives the same images."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusion.graph import FusionGraph
from fusion.shared_statistics import reads_whole_images
from fusion.weights import Weights, load_weights
from pipeline.atomic import atomic_path, sync_folder, write_bytes, write_text
from pipeline.errors import FusionError, InputError, MissingPackage, closest

EXPORT = "export.json"
FORMAT = 2
FILES = {"onnx": "model.onnx", "openvino": "model.xml", "torchscript": "model.pt"}
PRECISIONS = ("fp32", "fp16")
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}  # of full brightness, at the worst pixel
SIZES = ((64, 64), (8, 9), (61, 157), (130, 90), (97, 40))  # height, width: even, smallest, odd, tall, tall and narrow
TRACED = 2  # pairs in the batch an export is traced with, and compared at all sizes
# One pair is what `fuse` gives, and what a batch folded into a constant breaks.
BATCHES = {TRACED: SIZES, 1: SIZES[1:3]}
OPSET = 20


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The worst difference from PyTorch for a batch of one size, of full brightness."""

    batch: int
    height: int
    width: int
    difference: float


def export_network(source: str | Path, to: str, out: Path, precision: str = "fp32") -> list[Compared]:
    """Write the weights ``source`` for the engine ``to`` into the folder ``out``; compare with PyTorch on five sizes.

    The file takes any height, width (8 or more) and batch, floats 0..1, and holds padding, cropping and clamping.
    export.json comes last, and only when every difference is within TOLERANCE. Raises FusionError when one is not,
    InputError for an unknown engine or precision, WeightsError, MissingPackage. (int8: fusion.quantisation.)
    """
    if to not in FILES:
        raise InputError(f"--to {to}: expected one of {', '.join(FILES)}{closest(to, FILES)}")
    if precision not in PRECISIONS:
        raise InputError(f"--precision {precision}: expected {' or '.join(PRECISIONS)}{closest(precision, PRECISIONS)}")
    weights = load_weights(source)
    graph = FusionGraph(weights.network, to, half=precision == "fp16")
    with drafted(out, to) as path:
        try:
            WRITERS[to](graph, path)
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).splitlines()[0][:120]
            raise FusionError(
                f"{source}: this network cannot be written for {to} ({reason}); try torchscript"
            ) from error
        compared = compare(source, to, path)
        worst = max(compared, key=lambda one: one.difference)
        if not worst.difference <= TOLERANCE[precision]:
            raise FusionError(
                f"{out / path.name}: differs from PyTorch by {worst.difference:.2g} at {worst.batch} x {worst.width} x "
                f"{worst.height} pixels, {TOLERANCE[precision]:g} is allowed for {precision}; nothing was kept"
            )
        describe(path, to, precision, weights, compared, {"tolerance": TOLERANCE[precision]})
    return compared


@contextmanager
def drafted(out: Path, to: str) -> Iterator[Path]:
    """Yield where to write the file for an engine: beside it, all that is there moves into ``out`` at the end.

    On any error ``out`` stays as it was. Raises InputError where it is no folder, or holds files of these names that no
    export made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{out}: a file where the folder for the export was expected") from error
    taken = [path.name for path in (out / FILES[to], (out / FILES[to]).with_suffix(".bin")) if path.exists()]
    if (out / EXPORT).exists():
        try:
            is_ours = json.loads((out / EXPORT).read_text(encoding="utf-8"))["format"] == FORMAT
        except (ValueError, KeyError, TypeError):
            is_ours = False
        taken = [] if is_ours else [EXPORT, *taken]
    if taken:
        raise InputError(f"{out}: holds {', '.join(taken)}, made by no export; choose another --out")
    with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as folder:
        yield Path(folder) / FILES[to]
        written = sorted(Path(folder).iterdir(), key=lambda path: path.name == EXPORT)  # the description last
        for path in written:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        (out / EXPORT).unlink(missing_ok=True)
        for path in written:
            path.replace(out / path.name)
        sync_folder(out)


def compare(source: str | Path, to: str, path: Path) -> list[Compared]:
    """The differences of an exported file from PyTorch on drawn pairs: two at each of five sizes, one at two of them."""
    from fusion.engines import open_engine

    network = load_weights(source).network
    engine = open_engine(to, path)
    compared = []
    for batch, sizes in BATCHES.items():
        for height, width in sizes:
            pairs = _pairs(batch, height, width)
            with torch.inference_mode():  # the network with its own padding and first layers
                expected = network(*pairs).clamp(0, 1)
            difference = float((engine(*pairs, None) - expected).abs().max())
            compared.append(Compared(batch=batch, height=height, width=width, difference=difference))
    return compared


def describe(
    path: Path, to: str, precision: str, weights: Weights, compared: list[Compared], more: Mapping[str, Any]
) -> None:
    """Write export.json, by which the engines know the file."""
    described = {
        "format": FORMAT,
        "engine": to,
        "file": path.name,
        "precision": precision,
        "family": weights.config["family"],
        "whole_images": reads_whole_images(weights.network),
        "weights": weights.name,
        "weights_sha256": weights.sha256,
        "compared": [asdict(one) for one in compared],
        **more,
    }
    write_text(path.parent / EXPORT, json.dumps(described, indent=2) + "\n")


def _pairs(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Drawn pairs, (N, 3, H, W) and (N, 1, H, W)."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    visible = torch.rand(batch, 3, height, width, generator=generator)
    return visible, torch.rand(batch, 1, height, width, generator=generator)


def _traced(graph: FusionGraph) -> Any:
    with warnings.catch_warnings(), torch.enable_grad():  # with gradients on, no layer works in bands or buffers
        warnings.simplefilter("ignore")
        return torch.jit.trace(graph, _pairs(TRACED, 43, 57), check_trace=False)  # type: ignore[no-untyped-call]


def _write_torchscript(graph: FusionGraph, path: Path) -> None:
    content = BytesIO()  # writing to a full disk by itself, it aborts the process
    torch.jit.save(_traced(graph), content)
    write_bytes(path, content.getvalue())


def _write_onnx(graph: FusionGraph, path: Path) -> None:
    try:
        import onnx
    except ImportError as error:
        raise MissingPackage("writing ONNX needs onnx: pip install 'fusioncli[export]'") from error
    axes = {0: "batch", 2: "height", 3: "width"}
    # The exporter that traces: seconds where the one on torch.export takes minutes on these networks, same graph.
    with atomic_path(path) as temporary, warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            _pairs(TRACED, 43, 57),
            str(temporary),
            dynamo=False,
            input_names=["visible", "infrared"],
            output_names=["fused"],
            dynamic_axes={"visible": axes, "infrared": axes, "fused": axes},
            opset_version=OPSET,
            do_constant_folding=not graph.half_weights,  # folding would widen the halved weights again
        )
        onnx.checker.check_model(str(temporary))


def _write_openvino(graph: FusionGraph, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder) / "model.onnx"
        _write_onnx(graph, onnx)
        to_openvino(onnx, path, halved=graph.half_weights)


def to_openvino(onnx: Path, path: Path, halved: bool = False) -> None:
    """Turn an ONNX file into OpenVINO's. Raises MissingPackage, FusionError."""
    try:
        import openvino
    except ImportError as error:
        raise MissingPackage("writing OpenVINO needs openvino: pip install 'fusioncli[export]'") from error
    try:
        openvino.save_model(openvino.convert_model(str(onnx)), str(path), compress_to_fp16=halved)
    except RuntimeError as error:
        raise FusionError(
            f"{path}: cannot be written ({str(error).splitlines()[-1][:120]}); is the disk full?"
        ) from error


WRITERS: dict[str, Callable[[FusionGraph, Path], None]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torchscript": _write_torchscript,
}
