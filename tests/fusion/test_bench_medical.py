"""A benchmark of medical pairs beside one of infrared pairs: every table calls the sources by their own names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fusion.bench_run import BenchOptions, run_all
from fusion.methods import baseline_methods
from fusion.report.words import sentences
from fusion.results import spoken

NAMES = {"harvard-pet-mri": ("PET alone", "MRI alone"), "msrs": ("visible alone", "infrared alone")}


@pytest.fixture(scope="module")
def out(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    options = BenchOptions(
        datasets=tuple(NAMES), root=data_root, out=folder, limit=2, metrics=("EN", "VIF"), cost=False, device="cpu",
        methods={"nano": "nano"}, sheet=folder / "sheet.png",
    )  # fmt: skip
    result = run_all(options)
    for dataset in result.datasets:
        titles = dataset.methods["visible"].title, dataset.methods["infrared"].title
        assert titles == NAMES[dataset.name]
    medical = " ".join(sentences(result.datasets[0]))
    assert "the first image (PET) left untouched" in medical and "visible" not in medical
    return folder


def test_the_tables_name_the_sources_of_each_data_set(out: Path) -> None:
    for table in ("table.md", "table.tex"):
        text = (out / table).read_text()
        medical, ivf = re.split(r"(?=MSRS)", text, maxsplit=1)
        assert all(name in medical for name in NAMES["harvard-pet-mri"]) and "visible alone" not in medical
        assert all(name in ivf for name in NAMES["msrs"]) and "MRI alone" not in ivf


def test_the_page_names_them_in_its_gallery_too(out: Path) -> None:
    page = (out / "index.html").read_text()
    data = json.loads(re.search(r"<script[^>]*application/json[^>]*>(.*?)</script>", page, re.DOTALL)[1])
    seen = set()
    for shot in data["gallery"]:
        seen.add(shot["dataset"])
        assert (shot["titles"]["visible"], shot["titles"]["infrared"]) == NAMES[shot["dataset"]]
    assert seen == set(NAMES)
    for name, (first, second) in NAMES.items():
        assert (data["titles"][name]["visible"], data["titles"][name]["infrared"]) == (first, second)


@pytest.mark.parametrize(("modality", "words"), [("ct", "CT"), ("spect", "SPECT"), ("visible", "visible")])
def test_a_modality_is_spoken(modality: str, words: str) -> None:
    assert spoken(modality) == words
    assert baseline_methods((modality, "mri"))[0].card.title == f"{words} alone"
