"""The study of what the text buys: what is drawn, what is told, and known answers of the comparison."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cli import app
from command_line import Run
from fusion.edge import EdgeConfig, EdgeNetwork
from fusion.methods import NetworkMethod
from fusion.score import score
from fusion.text_findings import Condition, Lead, gain
from fusion.text_sheet import Album
from fusion.text_study import Arm, cases, conditions, draw, study
from fusion.weights import save_weights
from pipeline.embedders.hashing import HashingEmbedder, HashingSettings
from pipeline.errors import InputError, WeightsError
from pipeline.events import caption_text
from pipeline.images import read_image
from pipeline.store import Store

MODALITIES = ("visible", "infrared")
SMALL = {"half_width": 4, "quarter_width": 0, "quarter_depth": 0, "eighth_width": 0, "eighth_depth": 0}
CLEAN = Condition(modality="", label="", severity="")


@pytest.fixture(scope="module")
def opened(new_store: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(new_store(tmp_path_factory.mktemp("study"), pairs=3))


@pytest.fixture(scope="module")
def networks(opened: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network that reads its text, with random weights, and one that has no text."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    width = int(opened.fingerprint("text")["embedder"]["width"])
    reading = EdgeNetwork(EdgeConfig(**SMALL, text_width=width))
    for parameter in reading.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    save_weights(folder / "reading", reading, "card", {})
    save_weights(folder / "plain", EdgeNetwork(EdgeConfig(**SMALL)), "card", {})
    return folder / "reading", folder / "plain"


def arm(name: str, weights: Path, text: str) -> Arm:
    return Arm(name=name, method=NetworkMethod(name, str(weights)), text=text)


def test_conditions_are_the_clean_pair_and_every_degradation_of_each_image() -> None:
    every = conditions(MODALITIES)
    assert every[0] == CLEAN
    assert Condition(modality="visible", label="low_light", severity="severe") in every
    assert Condition(modality="infrared", label="low_light", severity="severe") not in every
    assert len(every) == len(set(every)) and (len(every) - 1) % 3 == 0
    with pytest.raises(InputError, match="low_light"):
        conditions(MODALITIES, ["low_ligth"])


def test_a_drawn_degradation_changes_its_own_image_only_and_is_told_first(opened: Store) -> None:
    wanted = conditions(MODALITIES, ["low_light"])
    clean = (
        np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8),
        np.full((32, 40), 90, dtype=np.uint8),
    )
    untouched, dark = [case for case in cases(opened, wanted, "text", "train", 2)][:2]
    seen, again, plain = (
        draw(dark, clean, MODALITIES),
        draw(dark, clean, MODALITIES),
        draw(untouched, clean, MODALITIES),
    )
    assert torch.equal(seen[0], again[0])
    assert seen[0].mean() < 0.8 * plain[0].mean()
    assert torch.equal(seen[1], plain[1])
    assert torch.allclose(plain[0][0].permute(1, 2, 0), torch.from_numpy(clean[0]) / 255)
    told = dark.caption.events[0]
    assert (told.modality, told.type, told.severity) == ("visible", "low_light", dark.condition.severity)


def test_a_reading_network_is_moved_by_another_text(opened: Store, networks: tuple[Path, Path]) -> None:
    reading, plain = networks
    wanted = conditions(MODALITIES, ["low_light"])
    arms = [arm("none", plain, "none"), arm("told", reading, "true"), arm("misled", reading, "shuffled")]
    findings = study(opened, arms, cases(opened, wanted, "text", "train", 2))
    assert len(findings) == 2 * len(wanted) * len(arms)
    assert gain(findings, "Qabf", Lead("told", "misled"), wanted[1].title).mean != 0
    assert all((found.scores["PSNR"] is None) == (found.condition == CLEAN) for found in findings)
    assert 5 < (findings[len(arms)].scores["PSNR"] or 0) < 60


class Dimming(EdgeNetwork):
    """Remembers the texts it is given, and fuses to half of the visible image."""

    def __init__(self, config: EdgeConfig) -> None:
        super().__init__(config)
        self.texts: list[torch.Tensor] = []

    def forward(self, visible: torch.Tensor, infrared: torch.Tensor, text: torch.Tensor | None = None) -> torch.Tensor:
        if text is not None:
            self.texts.append(text)
        return visible / 2


def dimming(name: str, weights: Path, text: str) -> Arm:
    made = arm(name, weights, text)
    made.method.network = Dimming(made.method.network.config)
    return made


def test_an_arm_is_told_the_text_of_its_case_or_of_another_pair_and_degradation(
    opened: Store, networks: tuple[Path, Path]
) -> None:
    every = cases(opened, conditions(MODALITIES, ["low_light"]), "text", "train", None)
    told, misled = dimming("told", networks[0], "true"), dimming("misled", networks[0], "shuffled")
    study(opened, [told, misled], every)
    embedder = HashingEmbedder(HashingSettings(width=int(opened.fingerprint("text")["embedder"]["width"])))
    texts = torch.from_numpy(embedder.embed([caption_text(case.caption) for case in every]))
    assert torch.equal(torch.cat(told.method.network.texts), texts)
    for case, text in zip(every, misled.method.network.texts, strict=True):
        others = [
            index
            for index, other in enumerate(every)
            if other.row.key != case.row.key and other.condition.label != case.condition.label
        ]
        assert any(torch.equal(text[0], texts[index]) for index in others)


def test_scores_are_against_the_clean_pair_and_psnr_against_the_networks_own_image_of_it(
    opened: Store, networks: tuple[Path, Path]
) -> None:
    every = cases(opened, conditions(MODALITIES, ["low_light"]), "text", "train", 2)
    found = study(opened, [dimming("dimmed", networks[1], "none")], every)
    for case, finding in zip(every, found, strict=True):
        clean = [read_image(content, name=case.row.key).pixels for content in opened.image_bytes(case.row)]
        seen = draw(case, (clean[0], clean[1]), MODALITIES)[0][0].permute(1, 2, 0).numpy()
        fused = np.round(seen / 2 * 255).astype(np.uint8)
        assert finding.scores["Qabf"] == score(clean[0], clean[1], fused, names=["Qabf"])["Qabf"]
        if case.condition != CLEAN:
            error = np.mean((fused.astype(float) - np.round(clean[0] / 510 * 255)) ** 2)
            assert finding.scores["PSNR"] == pytest.approx(10 * np.log10(255**2 / error), rel=1e-3)


def test_fewer_degradations_are_drawn_as_all_of_them_are(opened: Store) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    clean = (pixels, pixels[..., 0])
    whole, part = (
        {
            (case.row.key, case.condition): draw(case, clean, MODALITIES)
            for case in cases(opened, wanted, "text", "train", 2)
        }
        for wanted in (conditions(MODALITIES), conditions(MODALITIES, ["high_noise", "infrared_noise"]))
    )
    assert len(part) == 2 * 7
    for where, seen in part.items():
        assert all(torch.equal(one, other) for one, other in zip(seen, whole[where], strict=True)), where


def test_an_arm_of_another_text_width_is_one_sentence(opened: Store, tmp_path: Path) -> None:
    save_weights(tmp_path / "wide", EdgeNetwork(EdgeConfig(**SMALL, text_width=48)), "card", {})
    every = cases(opened, conditions(MODALITIES, ["low_light"]), "text", "train", 2)
    with pytest.raises(WeightsError, match=r"width 48, but the prior 'text' of .* holds width 512"):
        study(opened, [arm("told", tmp_path / "wide", "true")], every)


def test_a_limit_takes_pairs_evenly_from_the_first_to_the_last(opened: Store) -> None:
    rows = [case.row for case in cases(opened, [CLEAN], "text", "train", None)]
    for limit, places in ((1, [0]), (2, [0, 2]), (3, [0, 1, 2]), (9, [0, 1, 2])):
        assert [case.row for case in cases(opened, [CLEAN], "text", "train", limit)] == [
            rows[place] for place in places
        ]


def test_the_command_prints_the_table_and_writes_every_score(
    opened: Store, networks: tuple[Path, Path], tmp_path: Path
) -> None:
    out, table = tmp_path / "scores.csv", tmp_path / "table.json"
    arms = ["--arm", f"told={networks[0]}@true", "--arm", f"misled={networks[0]}@shuffled"]
    options = ["--label", "low_light", "--split", "train", "--limit", "2", "--out", str(out), "--json", str(table)]
    options += ["--sheet", str(tmp_path / "looks.png")]
    result = CliRunner().invoke(app, ["text-study", "--store", opened.name, *arms, *options])
    assert result.exit_code == 0, result.output
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * len(conditions(MODALITIES, ["low_light"]))
    answer = json.loads(table.read_text())
    read = answer["rows"]
    mean = np.mean([float(row["Qabf"]) for row in rows if row["arm"] == "told" and row["degradation"] == "clean"])
    assert read[0]["Qabf"] == pytest.approx(mean, abs=1e-5)
    (page,) = tmp_path.glob("looks-*-1.png")
    with Image.open(page) as picture:
        assert picture.width > 4 * 360  # both images as seen, and both arms
        assert picture.height > 270
    own, other = (
        np.array([float(row["Qabf"]) for row in rows if row["arm"] == name and row["degradation"] != "clean"])
        for name in ("told", "misled")
    )
    assert [row["degradation"] for row in read[-2:]] == ["every degradation"] * 2
    assert read[-2]["Qabf"] == pytest.approx(own.mean(), abs=1e-5)
    assert [row["lead"] for row in answer["leads"]] == ["told over misled"] * 3  # clean, low light, every degradation
    last = answer["leads"][-1]
    assert last["Qabf"] == pytest.approx((own - other).mean(), abs=1e-5)
    assert last["Qabf low"] <= last["Qabf"] <= last["Qabf high"]
    assert answer["kept"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--arm", "nonsense"], "NAME=WEIGHTS@TEXT"),
        (["--arm", "a={plain}@half"], "true, shuffled, none"),
        (["--arm", "a={reading}@none"], "trained with text"),
        (["--arm", "a={plain}@true"], "reads no text"),
        (["--arm", "a={plain}@shuffled"], "reads no text"),
        (["--arm", "a={plain}@none", "--arm", "a={plain}@none"], "same name"),
        (["--arm", "a={plain}@none", "--split", "tset"], "'tset'"),
        (["--arm", "a={plain}@none", "--lead", "a"], "FIRST:SECOND"),
        (["--arm", "told={plain}@none", "--lead", "told:tld"], "no arm 'tld'"),
    ],
)
def test_a_wrong_arm_or_split_is_one_sentence(
    opened: Store, networks: tuple[Path, Path], arguments: list[str], said: str
) -> None:
    filled = [argument.format(reading=networks[0], plain=networks[1]) for argument in arguments]
    result = CliRunner().invoke(app, ["text-study", "--store", opened.name, *filled])
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)


def test_the_sheet_shows_each_degradation_once_at_its_strongest_on_different_pairs(
    opened: Store, networks: tuple[Path, Path]
) -> None:
    wanted = conditions(MODALITIES, ["low_light", "motion_blur"])
    every = cases(opened, wanted, "text", "train", 2)
    album = Album(every)
    study(opened, [arm("plain", networks[1], "none")], every, look=album.look)
    first, second = dict.fromkeys(case.row.key for case in every)
    assert [row.name for row in album.rows] == [
        f"{first}, severe low_light on visible",
        f"{first}, severe motion_blur on infrared",
        f"{second}, severe motion_blur on visible",
    ]
    row = album.rows[0]
    assert list(row.pictures) == ["visible, as seen", "infrared, as seen", "plain"]
    shown = next(case for case in every if case.row.key == first and case.condition.severity == "severe")
    clean = tuple(read_image(content, name=first).pixels for content in opened.image_bytes(shown.row))
    assert row.visible.mean() < 0.8 * clean[0].mean(), "the visible image as seen is not the dark one"
    np.testing.assert_array_equal(
        row.infrared, read_image(opened.image_bytes(shown.row)[1], name=first).eight_bit(grey=True)
    )


def test_a_single_arm_has_scores_and_no_lead(opened: Store, networks: tuple[Path, Path]) -> None:
    words = ["--arm", f"plain={networks[1]}@none", "--label", "low_light", "--split", "train", "--limit", "2"]
    result = CliRunner().invoke(app, ["text-study", "--store", opened.name, *words])
    assert result.exit_code == 0, result.output
    assert "plain" in result.output and "ahead" not in result.output


def test_json_on_standard_output_stands_alone(fusioncli: Run, opened: Store, networks: tuple[Path, Path]) -> None:
    words = ("--arm", f"plain={networks[1]}@none", "--label", "low_light", "--split", "train", "--limit", "2")
    done = fusioncli("text-study", "--store", opened.name, *words, "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"][0]["arm"] == "plain"
