"""Edge networks in 8 bits: quantised after training, calibrated on pairs, measured on others by what they lose.

Only convolutions are quantised (weights by output channel, activations by range over the calibration pairs, in the
quantise-dequantise form that ONNX Runtime and OpenVINO both run in integers). Luma, blend weight and sums stay in single
precision: with the additions quantised too Qabf of edge fell by 5 %, and OpenVINO was no faster.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusion.edge import EdgeNetwork
from fusion.engines import open_engine
from fusion.export import FILES, WRITERS, Compared, compare, describe, drafted, to_openvino
from fusion.graph import FusionGraph
from fusion.score import score
from fusion.weights import load_weights
from pipeline.errors import FusionError, InputError, MissingPackage, WeightsError, closest
from pipeline.pairs import pair_folders, read_pair

PAIRS = 16  # at most as many to calibrate on, and as many others to measure on
METRICS = ("VIF", "Qabf")
ALLOWED_LOSS = 0.10  # of a metric's fp32 value; more is refused
SEED = 1701


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The mean of a metric in single precision and in 8 bits."""

    name: str
    fp32: float
    int8: float


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """What 8 bits cost on ``measured_on`` pairs; ``compared`` holds the worst pixels on noise of five sizes."""

    costs: list[Cost]
    calibrated_on: int
    measured_on: int
    compared: list[Compared]


Arrays = tuple[NDArray[np.float32], NDArray[np.float32]]


def export_int8(
    source: str | Path, to: str, out: Path, calibration: tuple[Path, Path] | None = None, count: int = PAIRS
) -> Quantised:
    """Write an edge network in 8 bits for ONNX Runtime or OpenVINO into ``out``, any size and batch.

    ``calibration``: folders of visible and infrared images; every second pair calibrates, the others measure the cost,
    at most ``count`` each. Without it pairs are drawn. Raises FusionError when VIF or Qabf falls by more than ALLOWED_LOSS (nothing is kept),
    InputError for another engine or pairs that show nothing, WeightsError for a network that is none of the edge family, MissingPackage.
    """
    engines = [name for name in FILES if name != "torchscript"]
    if to not in engines:
        raise InputError(f"--to {to} --int8: 8 bits are for {' and '.join(engines)}{closest(to, engines)}")
    weights = load_weights(source)
    if not isinstance(weights.network, EdgeNetwork):
        raise WeightsError(
            f"{source}: 8 bits are for the edge family, not for {weights.config['family']}: attention loses too much by it"
        )
    pairs = list(islice(_pairs(calibration, 2 * count), 2 * count))
    if len(pairs) < 4:
        raise InputError(f"{len(pairs)} pairs: give --calibrate at least 4, better {2 * PAIRS}")
    graph = FusionGraph(weights.network, to)
    with drafted(out, to) as path:
        with TemporaryDirectory() as home:
            single, eight = Path(home) / "single.onnx", Path(home) / "eight.onnx"
            WRITERS["onnx"](graph, single)
            _quantise(single, eight, pairs[::2])
            if to == "openvino":
                to_openvino(eight, path)
            else:
                shutil.copyfile(eight, path)
        costs = _costs(graph, open_engine(to, path), pairs[1::2])
        for one in costs:
            if not one.fp32 > 0:
                raise InputError(
                    f"{source}: on the pairs given to measure by, {one.name} is 0 before anything is quantised: they show nothing. "
                    "Calibrate with pairs like those to be fused: --calibrate VISIBLE INFRARED"
                )
            if not one.int8 >= (1 - ALLOWED_LOSS) * one.fp32:
                raise FusionError(
                    f"{source}: in 8 bits {one.name} falls from {one.fp32:.4f} to {one.int8:.4f}, more than {ALLOWED_LOSS:.0%}; "
                    "nothing was kept. Calibrate with pairs like those to be fused: --calibrate VISIBLE INFRARED"
                )
        quantised = Quantised(
            costs=costs, calibrated_on=len(pairs[::2]), measured_on=len(pairs[1::2]), compared=compare(source, to, path)
        )
        drawn = {"calibrated_on": quantised.calibrated_on, "drawn_pairs": calibration is None}
        describe(path, to, "int8", weights, quantised.compared, {"costs": [asdict(one) for one in costs], **drawn})
    return quantised


def _pairs(folders: tuple[Path, Path] | None, count: int) -> Iterator[Arrays]:
    """Visible (3, H, W) and infrared (1, H, W), floats 0..1: spread over the folders, or drawn."""
    if folders is None:
        from pipeline.synth import draw_pair

        for index in range(count):
            drawn = draw_pair(SEED, index, 240, 320)
            yield drawn.visible.transpose(2, 0, 1).copy(), drawn.infrared[None].copy()
        return
    pairs = pair_folders(*folders)
    for pair in pairs[:: max(1, len(pairs) // count)]:
        visible, infrared = read_pair(pair)
        yield visible.as_rgb().transpose(2, 0, 1).copy(), infrared.as_grey()[None].copy()


def _quantise(single: Path, eight: Path, pairs: list[Arrays]) -> None:
    try:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise MissingPackage("8 bits need onnxruntime and onnx: pip install 'fusioncli[export]'") from error

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter(pairs)

        def get_next(self) -> dict[str, Any] | None:
            pair = next(self.rest, None)
            return None if pair is None else {"visible": pair[0][None], "infrared": pair[1][None]}

    logging.getLogger().addFilter(_no_advice)
    try:
        quantize_static(
            str(single),
            str(eight),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.getLogger().removeFilter(_no_advice)


def _no_advice(record: logging.LogRecord) -> bool:
    """The quantiser recommends a preparation that these graphs have no use for."""
    return "pre-processing" not in record.getMessage()


def _costs(graph: FusionGraph, engine: Any, pairs: list[Arrays]) -> list[Cost]:
    sums = {name: [0.0, 0.0] for name in METRICS}
    for visible, infrared in pairs:
        tensors = torch.from_numpy(visible)[None], torch.from_numpy(infrared)[None]
        with torch.inference_mode():
            results = graph(*tensors), engine(*tensors, None)
        first, second = _eight_bit(visible), _eight_bit(infrared)[..., 0]
        for index, fused in enumerate(results):
            scores = score(first, second, _eight_bit(fused[0].numpy()), names=METRICS)
            for name in METRICS:
                sums[name][index] += (scores[name] or 0.0) / len(pairs)
    return [Cost(name=name, fp32=both[0], int8=both[1]) for name, both in sums.items()]


def _eight_bit(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(planes.transpose(1, 2, 0) * 255).astype(np.uint8)
