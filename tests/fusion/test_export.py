"""Exported networks give PyTorch's images at sizes they were not traced with, or are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from PIL import Image

from fresh_network import assert_safe_in_threads
from fusion.blocks import Block
from fusion.catalog import NETWORKS
from fusion.export import TOLERANCE, WRITERS, export_network
from fusion.graph import FusionGraph, reflected
from fusion.inference import Fuser
from fusion.network import pad_to_multiple
from fusion.quantisation import export_int8
from fusion.weights import save_weights
from pipeline.errors import FusionError, InputError, WeightsError

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

Run = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano network whose every layer matters: a fresh one is a soft maximum whatever its features are."""
    torch.manual_seed(0)
    network = NETWORKS["nano"].build()
    torch.nn.init.normal_(network.head.weight, std=0.1)
    folder = tmp_path_factory.mktemp("weights") / "nano"
    save_weights(folder, network, "# drawn\n")
    return folder


@pytest.fixture(scope="module")
def onnx_export(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "onnx"
    export_network(weights, "onnx", out)
    return out


def test_another_export_in_the_same_folder_leaves_the_first_ones_file(weights: Path, tmp_path: Path) -> None:
    export_network(weights, "onnx", tmp_path / "out")
    content = (tmp_path / "out" / "model.onnx").read_bytes()
    export_network(weights, "openvino", tmp_path / "out")
    assert (tmp_path / "out" / "model.onnx").read_bytes() == content


@pytest.mark.parametrize("to", ["onnx", "openvino", "torchscript"])
def test_an_export_that_fails_leaves_the_one_before(weights: Path, tmp_path: Path, to: str) -> None:
    """Files are held to 8 KiB, as a disk is that fills: the writers of the engines end in exceptions of their own."""
    export_network(weights, to, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    command = [sys.executable, "-m", "cli", "export", "--weights", str(weights), "--to", to, "--out", "out"]
    limited = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)); import os; os.execv(sys.argv[1], sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", limited, *command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("fusioncli: "), done.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("to", ["onnx", "openvino", "torchscript"])
def test_an_export_cut_short_is_one_sentence(weights: Path, tmp_path: Path, to: str) -> None:
    export_network(weights, to, tmp_path / "out")
    file = tmp_path / "out" / json.loads((tmp_path / "out" / "export.json").read_text())["file"]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(WeightsError, match="damaged or of another engine; export again"):
        Fuser.from_pretrained(tmp_path / "out", engine=to)


@pytest.mark.parametrize("to", ["onnx", "openvino", "torchscript"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_export_fuses_as_pytorch_does(weights: Path, tmp_path: Path, to: str, precision: str) -> None:
    compared = export_network(weights, to, tmp_path / "out", precision)
    assert [one.batch for one in compared] == [2, 2, 2, 2, 2, 1, 1]
    assert max(one.difference for one in compared) <= TOLERANCE[precision]
    if precision == "fp16":
        assert max(one.difference for one in compared) > 1e-6, "half the bits must show somewhere"
    described = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (described["engine"], described["precision"]) == (to, precision)
    fuser = Fuser.from_pretrained(tmp_path / "out", engine=to)
    reference = Fuser.from_pretrained(weights)
    for shape in ((8, 8), (33, 71), (100, 52)):
        generator = np.random.default_rng(shape[0])
        pair = generator.random((3, *shape, 3), dtype=np.float32), generator.random((3, *shape), dtype=np.float32)
        assert np.abs(fuser(*pair) - reference(*pair)).max() <= TOLERANCE[precision]


@pytest.mark.parametrize("size", [(8, 9), (30, 100), (33, 34), (64, 64), (65, 127)])
def test_the_padding_inside_the_graph_is_the_networks_own(size: tuple[int, int]) -> None:
    image = torch.rand(1, 1, *size)
    rows, columns = reflected(*size, 64)
    assert torch.equal(image[:, :, rows][:, :, :, columns], pad_to_multiple(image, 64))


@pytest.mark.slow
@pytest.mark.parametrize("to", ["torchscript", "onnx"])
def test_the_attention_student_is_exported_at_any_size(tmp_path: Path, to: str) -> None:
    torch.manual_seed(0)
    save_weights(tmp_path / "w", NETWORKS["student-tiny"].build(), "# drawn\n")
    compared = export_network(tmp_path / "w", to, tmp_path / "out")
    assert max(one.difference for one in compared) <= 1e-4
    exported, reference = Fuser.from_pretrained(tmp_path / "out", engine=to), Fuser.from_pretrained(tmp_path / "w")
    for count in (1, 3):  # it was traced with two
        pair = np.random.default_rng(count).random((count, 24, 40, 3)), np.random.default_rng(9).random((count, 24, 40))
        assert np.abs(exported(*pair) - reference(*pair)).max() <= 1e-4
    with pytest.raises(InputError, match="use --engine torch"):
        Fuser.from_pretrained(tmp_path / "out", engine=to, tile=192)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_a_traced_attention_takes_any_batch() -> None:
    """Traced on two pairs as exports are; a length read while tracing would be a constant."""
    torch.manual_seed(0)
    block = Block(8, 1, 1.0).eval().requires_grad_(False)
    traced = torch.jit.trace(block, torch.randn(2, 8, 16, 16), check_trace=False)
    for shape in ((1, 8, 16, 16), (3, 8, 24, 16)):
        features = torch.randn(shape)
        torch.testing.assert_close(traced(features), block(features), atol=1e-5, rtol=1e-5)


def test_an_exported_network_that_sees_the_whole_image_takes_no_tiles(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_weights(tmp_path / "w", NETWORKS["edge-prior"].build(), "# drawn\n")
    export_network(tmp_path / "w", "torchscript", tmp_path / "out")
    with pytest.raises(InputError, match="use --engine torch"):
        Fuser.from_pretrained(tmp_path / "out", engine="torchscript", tile=192)


def test_the_graph_clamps_its_range(weights: Path) -> None:
    graph = FusionGraph(NETWORKS["nano"].build())
    fused = graph(torch.full((1, 3, 16, 16), 3.0), torch.full((1, 1, 16, 16), -2.0))
    assert float(fused.min()) >= 0 and float(fused.max()) <= 1


@pytest.mark.parametrize("to", list(WRITERS))
def test_an_export_that_differs_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    honest = WRITERS[to]

    def bent(graph: FusionGraph, path: Path) -> None:
        with torch.no_grad():
            graph.network.head.bias += 0.002  # type: ignore[union-attr, operator]
        honest(graph, path)

    monkeypatch.setitem(WRITERS, to, bent)
    with pytest.raises(FusionError, match="differs from PyTorch"):
        export_network(weights, to, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("to", list(WRITERS))
def test_an_export_that_is_right_for_the_traced_batch_alone_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    honest = WRITERS[to]

    class Bound(FusionGraph):
        def forward(self, visible: torch.Tensor, infrared: torch.Tensor) -> torch.Tensor:
            pairs = torch.ones_like(visible[:, 0, 0, 0]).sum()
            return super().forward(visible, infrared) * (0.98 + 0.01 * pairs)

    def bent(graph: FusionGraph, path: Path) -> None:
        graph.__class__ = Bound
        honest(graph, path)

    monkeypatch.setitem(WRITERS, to, bent)
    with pytest.raises(FusionError, match=r"differs from PyTorch by 0\.0\d* at 1 x"):
        export_network(weights, to, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_eight_bits_cost_little_and_the_cost_is_printed(fusioncli: Run, data_root: Path, tmp_path: Path) -> None:
    for kind in ("vi", "ir"):
        (tmp_path / kind).mkdir()
        for path in sorted((data_root / "roadscene" / kind).iterdir())[:6]:
            (tmp_path / kind / path.name).symlink_to(path)
    done = fusioncli("export", "--weights", "nano", "--to", "onnx", "--out", "o8", "--int8", "--calibrate", "vi", "ir")
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("VIF", "Qabf", "3 pairs"))
    described = json.loads((tmp_path / "o8" / "export.json").read_text())
    assert described["precision"] == "int8" and described["calibrated_on"] == 3 and len(described["compared"]) == 7
    single, eight = Fuser.from_pretrained("nano", device="cpu"), Fuser.from_pretrained(tmp_path / "o8", engine="onnx")
    for shape in ((8, 11), (51, 34)):
        pair = np.random.default_rng(1).random((2, *shape, 3)), np.random.default_rng(2).random((2, *shape))
        difference = np.abs(single(*pair) - eight(*pair))
        assert difference.shape == (2, *shape, 3) and 0 < difference.mean() < 0.02
    for cost in described["costs"]:
        assert abs(cost["int8"] - cost["fp32"]) < 0.05 * cost["fp32"], cost


def test_openvino_takes_eight_bits_too_on_drawn_pairs(tmp_path: Path) -> None:
    quantised = export_int8("nano", "openvino", tmp_path / "out", count=2)
    assert (quantised.calibrated_on, quantised.measured_on) == (2, 2)
    assert [one.name for one in quantised.costs] == ["VIF", "Qabf"] and len(quantised.compared) == 7
    fused = Fuser.from_pretrained(tmp_path / "out", engine="openvino")(np.zeros((9, 10, 3)), np.zeros((9, 10)))
    assert fused.shape == (9, 10, 3)


def test_eight_bits_that_cost_more_than_allowed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusion.quantisation.ALLOWED_LOSS", -0.5)  # as if half as much again were expected
    with pytest.raises(FusionError, match=r"falls from .* nothing was kept"):
        export_int8("nano", "onnx", tmp_path / "out", count=2)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("source", "to", "expected"),
    [
        ("nano", "torchscript", "8 bits are for onnx and openvino"),
        ("student", "onnx", "8 bits are for the edge family"),
    ],
)
def test_eight_bits_where_they_make_no_sense_are_refused(tmp_path: Path, source: str, to: str, expected: str) -> None:
    if source == "student":
        save_weights(tmp_path / "w", NETWORKS["student-tiny"].build(), "# drawn\n")
        source = str(tmp_path / "w")
    with pytest.raises((InputError, WeightsError), match=expected):
        export_int8(source, to, tmp_path / "out")


def test_a_teacher_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="distil a student"):
        FusionGraph(NETWORKS["teacher-tiny"].build())


@pytest.mark.parametrize(("to", "at_once"), [("openvino", None), ("openvino", 2), ("onnx", 2)])
def test_an_engine_is_safe_in_several_threads(weights: Path, tmp_path: Path, to: str, at_once: int | None) -> None:
    export_network(weights, to, tmp_path / "out")
    fuser = Fuser.from_pretrained(tmp_path / "out", engine=to, at_once=at_once)
    assert fuser.at_once == (at_once or 1)
    assert_safe_in_threads(fuser)


@pytest.mark.parametrize("to", list(WRITERS))
def test_an_engine_reads_planes_that_are_not_contiguous(weights: Path, tmp_path: Path, to: str) -> None:
    """A tile is a view of the image: the copy an engine is lent must outlive the call."""
    export_network(weights, to, tmp_path / "out")
    torch.manual_seed(1)
    visible, infrared = torch.rand(1, 3, 220, 230), torch.rand(1, 1, 220, 230)
    engine, expected = Fuser.from_pretrained(tmp_path / "out", engine=to), Fuser.from_pretrained(weights)
    for top in range(0, 24, 3):
        tile = (visible[..., top : top + 192, 7:199], infrared[..., top : top + 192, 7:199])
        assert (engine(*tile) - expected(*tile)).abs().max() < 1e-4


def test_the_command_line_exports_and_fuses(fusioncli: Run, weights: Path, tmp_path: Path) -> None:
    done = fusioncli("export", "--weights", weights, "--to", "onnx", "--out", "exported", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 7
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 256, (37, 45, 3)).astype(np.uint8)).save(tmp_path / "v.png")
    Image.fromarray(generator.integers(0, 256, (37, 45)).astype(np.uint8)).save(tmp_path / "i.png")
    images = []
    for engine, source in (("onnx", "exported"), ("torch", str(weights))):
        out = f"{engine}.png"
        done = fusioncli("fuse", "v.png", "i.png", "--out", out, "--engine", engine, "--weights", source)
        assert done.returncode == 0, done.stderr
        images.append(np.asarray(Image.open(tmp_path / out)).astype(int))
    assert images[0].shape == (37, 45, 3) and np.abs(images[0] - images[1]).max() <= 1


@pytest.mark.parametrize(
    ("engine", "expected"),
    [("openvino", "exported for onnx"), ("onx", "did you mean 'onnx'"), ("torch", "exported for another engine")],
)
def test_the_wrong_engine_is_named(onnx_export: Path, engine: str, expected: str) -> None:
    with pytest.raises((InputError, WeightsError), match=expected):
        Fuser.from_pretrained(onnx_export, engine=engine)


def test_weights_that_were_not_exported_say_how(weights: Path) -> None:
    with pytest.raises(WeightsError, match="fusioncli export --weights"):
        Fuser.from_pretrained(weights, engine="onnx")
