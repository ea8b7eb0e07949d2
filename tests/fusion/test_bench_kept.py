"""What a benchmark keeps between runs, and the texts it reads from a store."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from threading import Event
from time import sleep
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bench_pairs import SIZE, drawn_root, options
from fusion.bench_run import bench_sets, run_all
from fusion.benchmark import run_bench
from fusion.catalog import NETWORKS
from fusion.cost_memory import measure_costs
from fusion.methods import code_files
from fusion.results import Cost
from fusion.score import score_fused
from pipeline.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return drawn_root(tmp_path)


def test_a_network_is_run_once_and_again_when_its_weights_change(root: Path, tmp_path: Path) -> None:
    import torch

    from fusion.catalog import NETWORKS
    from fusion.weights import save_weights

    def save(seed: int) -> None:
        torch.manual_seed(seed)
        save_weights(tmp_path / "nano", NETWORKS["nano"].build(), "a card")

    save(0)
    chosen = options(root, methods={"nano": str(tmp_path / "nano")})
    first = run_all(chosen).datasets[0]
    made = root.parent / "bench" / "fused" / "synthetic" / "nano" / "test-0.png"
    before = made.stat().st_mtime_ns
    again = run_all(chosen).datasets[0]
    assert made.stat().st_mtime_ns == before
    assert again.values == first.values
    save(1)
    changed = run_all(chosen).datasets[0]
    assert made.stat().st_mtime_ns != before
    assert changed.methods["nano"].digest != first.methods["nano"].digest
    assert Image.open(made).size == (SIZE[1], SIZE[0])


def test_a_teacher_takes_its_text_from_the_store(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way from captions to the page, and what happens when pairs have no text."""
    import torch
    from typer.testing import CliRunner

    import cli
    from fusion.catalog import NETWORKS
    from fusion.weights import save_weights

    monkeypatch.chdir(root.parent)
    torch.manual_seed(0)
    network = NETWORKS["teacher-tiny"].build()
    save_weights(root.parent / "teacher", network, "a card")

    def caption(*more: str) -> None:
        words = ["--dataset", "synthetic", "--root", str(root), "--captioner", "measured", "--embedder", "hashing"]
        done = CliRunner().invoke(cli.app, ["caption", *words, *more])
        assert done.exit_code == 0, (done.output, done.exception)

    caption("--store", "captioned/synthetic")
    chosen = options(root, methods={"teacher": "teacher"}, metrics=("EN",), stores=Path("captioned"), limit=1)
    told = run_all(chosen).datasets[0]
    assert str(told.methods["teacher"].text).startswith("captioned/synthetic, prior text, SHA-256 ")
    assert "text: captioned/synthetic" in (root.parent / "bench" / "index.html").read_text()
    with pytest.raises(InputError, match="no store nowhere/synthetic.*fusioncli caption --dataset synthetic"):
        run_all(replace(chosen, stores=Path("nowhere")))
    caption("--store", "few/synthetic", "--limit", "2")
    with pytest.raises(
        InputError, match="teacher: 2 of 4 pairs have no text in few/synthetic, prior text: test-2, test-3"
    ):
        run_all(replace(chosen, stores=Path("few"), limit=None))


def test_a_second_run_fuses_and_scores_nothing_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the baselines, but for the pictures on the page; an interrupted run keeps the scores it has."""
    calls: list[str] = []

    def count(sources: object, fused: np.ndarray, *rest: object) -> object:
        calls.append("scored")
        if interrupt and len(calls) > 7:
            raise KeyboardInterrupt
        return score_fused(sources, fused, *rest)

    monkeypatch.setattr("fusion.score_memory.score_fused", count)
    interrupt = True
    with pytest.raises(KeyboardInterrupt):
        run_all(options(root))
    interrupt = False
    calls.clear()
    first = run_all(options(root)).datasets[0]
    assert len(calls) == len(first.methods) * 4 - 7  # seven were scored before the interruption
    calls.clear()
    monkeypatch.setattr("fusion.benchmark.fuse_once", lambda *_: pytest.fail("fused again"))
    assert run_all(options(root)).datasets[0].values == first.values
    assert calls == []


def test_an_interrupted_run_keeps_a_score_that_is_still_being_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first image's score fails while another thread scores the second, which ends later and is kept."""
    begun, calls = Event(), []

    def fail_first(sources: object, fused: np.ndarray, *rest: object) -> object:
        calls.append("scored")
        if len(calls) == 1:
            begun.wait(20)
            raise KeyboardInterrupt
        begun.set()
        sleep(0.5)
        return score_fused(sources, fused, *rest)

    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("fusion.score_memory.score_fused", fail_first)
    with pytest.raises(KeyboardInterrupt):
        run_all(options(root))
    (kept,) = options(root).out.rglob("scores/*.json")
    assert json.loads(kept.read_text()), "the second score was lost"


def test_images_that_a_benchmark_has_not_made_stay(root: Path) -> None:
    chosen = options(root, methods={"nano": "nano"}, limit=1)
    precious = chosen.out / "fused" / "synthetic" / "nano" / "holiday.png"
    precious.parent.mkdir(parents=True)
    Image.new("L", (8, 8)).save(precious)
    with pytest.raises(InputError, match="holds images that a benchmark has not made"):
        run_all(chosen)
    assert precious.is_file()


def test_all_images_of_a_method_are_there_under_a_new_name(root: Path) -> None:
    """Its scores are known, so nothing is scored; the images beside them are not those of the gallery alone."""
    out = root.parent / "bench"
    for name in ("first", "second"):
        (one,) = bench_sets(options(root, methods={name: "nano"}))
        run_bench(one, out=out, names=("EN",), with_cost=False)
    first, second = (out / "fused" / "synthetic" / name for name in ("first", "second"))
    assert len(list(first.glob("*.png"))) == 4
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"nano": 3}', b"\xff"])
def test_damaged_costs_are_measured_again(root: Path, content: bytes) -> None:
    chosen = options(root, methods={"nano": "nano"}, limit=1, cost=True)
    chosen.out.mkdir()
    (chosen.out / "costs.json").write_bytes(content)
    assert run_all(chosen).datasets[0].methods["nano"].cost.parameters > 1000
    assert "nano" not in json.loads((chosen.out / "costs.json").read_text())


@pytest.mark.parametrize("content", [b"{", b"[1]", b"null", b'{"0": 3}', b"\xff"])
def test_damaged_scores_are_made_again(root: Path, content: bytes) -> None:
    chosen = options(root, limit=1)
    expected = run_all(chosen).datasets[0].values
    (kept,) = chosen.out.rglob("scores/*.json")
    kept.write_bytes(content)
    assert run_all(chosen).datasets[0].values == expected
    assert "0" not in json.loads(kept.read_text())


def test_a_look_at_one_pair_keeps_the_scores_of_the_others(root: Path) -> None:
    chosen = options(root)
    run_all(chosen)
    (kept,) = chosen.out.rglob("scores/*.json")
    all_scores = json.loads(kept.read_text())
    run_all(replace(chosen, limit=1))
    assert json.loads(kept.read_text()) == all_scores


def test_other_pixels_or_another_network_are_fused_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same names and sizes in the same place: a data set that was mended, and a changed layer."""
    chosen = options(root, methods={"nano": "nano"}, limit=1)

    def fused(out: Path = chosen.out) -> np.ndarray:
        run_all(replace(chosen, out=out))
        with Image.open(out / "fused" / "synthetic" / "nano" / "test-0.png") as image:
            return np.asarray(image)

    before = fused()
    for folder in ("vi", "ir"):
        path = root / "synthetic" / folder / "test-0.png"
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    after = fused()
    assert (after == fused(root.parent / "fresh")).all() and (after != before).any()
    place = chosen.out / "fused" / "synthetic" / "nano" / "test-0.png"
    stamp = place.stat().st_mtime_ns
    fused()
    assert place.stat().st_mtime_ns == stamp
    place.write_bytes(place.read_bytes()[:-300])  # damaged: no reason to stop
    assert (fused() == after).all()
    stamp = place.stat().st_mtime_ns
    monkeypatch.setattr("fusion.methods._code_of", lambda network: "another version")
    fused()
    assert place.stat().st_mtime_ns > stamp


@pytest.mark.parametrize(
    ("network", "files"),
    [("edge", {"edge.py"}), ("edge-prior", {"global_context.py", "shared_statistics.py"}), ("student", {"bands.py"})],
)
def test_what_decides_fused_images_is_known_with_its_base_classes(network: str, files: set[str]) -> None:
    found = {path.name for path in code_files(NETWORKS[network].build())}
    assert files | {"tiling.py"} <= found


def test_costs_are_those_of_the_device(tmp_path: Path) -> None:
    class Stub:
        card = SimpleNamespace(name="stub", digest="d")

        def __init__(self, milliseconds: float) -> None:
            self.milliseconds = milliseconds

        def cost(self) -> Cost:
            values = {"parameters": 1, "gflops": None, "latency_p95_ms": 1.0, "warmup": 0, "runs": 1, "threads": 1}
            return Cost(**values, latency_ms=self.milliseconds, device="", peak_mib=None)

    for device, milliseconds in (("cpu", 50.0), ("cuda", 1.0), ("cpu", 70.0)):
        found = measure_costs([Stub(milliseconds)], tmp_path / "costs.json", device)["stub"]
        assert found is not None and found.latency_ms == {"cpu": 50.0, "cuda": 1.0}[device]
