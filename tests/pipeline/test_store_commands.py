"""The store commands answer, in words, in JSON and as pages; a crafted store can neither run nor hide anything in them."""

from __future__ import annotations

import json
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.captioning import CaptionOptions, caption_pairs
from pipeline.pages import compare_page, report_page, table
from pipeline.sources import find_source
from pipeline.store import Store


def caption(store: Path, folders: tuple[Path, Path], **options: Any) -> None:
    defaults: dict[str, Any] = {"captioner": "scripted", "embedder": "hashing", "workers": 1, "max_failed": "100%"}
    source = find_source(None, folders, None, None, str(store))
    caption_pairs(CaptionOptions(store=str(store), **{**defaults, **options}), source)


class Tags(HTMLParser):
    """Collects tags and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def check_page(page: str) -> list[tuple[str, dict[str, str | None]]]:
    tags = Tags()
    tags.feed(page)
    assert not [tag for tag, _ in tags.seen if tag in ("script", "iframe", "object", "link")]
    assert not [name for _, attributes in tags.seen for name in attributes if name.startswith("on")]
    sources = [attributes["src"] or "" for tag, attributes in tags.seen if tag == "img"]
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    return tags.seen


def test_a_real_data_set_goes_through_the_command_line(fusioncli: Any, tmp_path: Path, data_root: Path) -> None:
    arguments = ("--dataset", "roadscene", "--root", data_root, "--captioner", "measured", "--embedder", "hashing")
    done = fusioncli(
        "--quiet", "caption", *arguments, "--limit", "6", "--shard-size", "4", "--workers", "1", "--json", "-"
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["pairs"], summary["failed"], summary["shards"]) == (6, 0, 2)
    verified = fusioncli("store", "verify", "stores/roadscene", "--json", "-")
    assert verified.returncode == 0
    assert json.loads(verified.stdout)["ok"] is True
    shown = json.loads(fusioncli("store", "show", "stores/roadscene", "--json", "-").stdout)
    assert shown["priors"]["text"]["captioner"] == "measured"
    key = Store.open(tmp_path / "stores/roadscene").plan()[0].key
    one = json.loads(fusioncli("store", "show", "stores/roadscene", "--key", key, "--json", "-").stdout)
    assert one["priors"]["text"]["status"] == "ok"
    empty = fusioncli("store", "show", "stores/roadscene", "--key", "")
    assert empty.returncode == 2, "a key that a script left empty is not the whole store"
    assert "nothing after --key" in empty.stderr
    (tmp_path / "stores/roadscene/images/shard-000001.tar").write_bytes(b"")
    broken = fusioncli("store", "verify", "stores/roadscene")
    assert broken.returncode == 1
    assert "shard-000001.tar" in broken.stdout
    nowhere = fusioncli("store", "show", "nowhere")
    assert (nowhere.returncode, nowhere.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to caption"),
        (("--dataset", "roadscen"), "did you mean 'roadscene'"),
        (("--dataset", "roadscene", "--pairs", "a", "b"), "give one of them"),
        (("--pairs", "missing", "missing2", "--captioner", "measured"), "no such folder"),
    ],
)
def test_wrong_usage_is_one_sentence(fusioncli: Any, arguments: tuple[str, ...], message: str) -> None:
    done = fusioncli("caption", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--captioner", "import"), "--captioner import needs a folder: --from DIR"),
        (("--captioner", "import", "--from", "nowhere"), "--from nowhere: no such folder"),
        (("--captioner", "measured", "--set", "colour=3"), "--captioner measured: unknown setting 'colour'"),
        (("--captioner", "measured", "--embedder-set", "width=0"), "width=0: at least 1"),
        (("--captioner", "server"), "--captioner server needs an endpoint: --url URL"),
    ],
)
def test_settings_are_looked_at_before_a_store_is_begun(
    fusioncli: Any, tmp_path: Path, draw_pairs: Any, arguments: tuple[str, ...], message: str
) -> None:
    first, second = draw_pairs(2)
    done = fusioncli("caption", "--pairs", first, second, "--store", "s", "--embedder", "hashing", *arguments)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (tmp_path / "s").exists()


def test_torchvision_made_for_another_torch_is_one_sentence(fusioncli: Any, tmp_path: Path, draw_pairs: Any) -> None:
    """CLIP is the default embedder, and open_clip imports torchvision, which then dies of a RuntimeError."""
    (tmp_path / "broken/torchvision").mkdir(parents=True)
    (tmp_path / "broken/torchvision/__init__.py").write_text("raise RuntimeError('operator nms does not exist')\n")
    first, second = draw_pairs(2)
    paths = os.pathsep.join((str(tmp_path / "broken"), str(Path(__file__).resolve().parents[2])))
    arguments = ("--pairs", first, second, "--store", "s", "--captioner", "measured", "--embedder", "clip")
    done = fusioncli("--quiet", "caption", *arguments, PYTHONPATH=paths)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "open_clip does not load here (operator nms does not exist)" in done.stderr
    assert "--embedder hashing" in done.stderr


def test_the_report_is_one_harmless_page(tmp_path: Path, draw_pairs: Any) -> None:
    caption(tmp_path / "s", draw_pairs(12), captioner_settings={"fail": "0.3"})
    page = report_page(Store.open(tmp_path / "s"), "text")
    seen = check_page(page)
    assert len([tag for tag, _ in seen if tag == "img"]) == 24
    assert len([tag for tag, _ in seen if tag == "circle"]) == len(
        [s for s in Store.open(tmp_path / "s").rows(columns=["status"])["status"].to_pylist() if s == "ok"]
    )
    assert "refused" in page


def test_whatever_a_caption_says_is_only_text(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(4)
    texts = tmp_path / "texts"
    texts.mkdir()
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    for number in range(4):
        said = {"scene": evil, "visible": [{"type": "low_light", "description": evil}], "infrared": [{"type": evil}]}
        (texts / f"p{number:04d}.json").write_text(json.dumps(said))
    caption(tmp_path / "s", folders, captioner="import", captioner_settings={"folder": str(texts)})
    check_page(report_page(Store.open(tmp_path / "s"), "text"))
    assert "<script" not in table(("a",), [("<script>",)])


def test_two_priors_are_compared(tmp_path: Path, draw_pairs: Any, fusioncli: Any) -> None:
    folders = draw_pairs(8)
    caption(tmp_path / "s", folders)
    caption(tmp_path / "s", folders, prior="same")
    caption(tmp_path / "s", folders, prior="other", captioner="measured")
    same = json.loads(fusioncli("store", "compare", "s", "text", "same", "--json", "-").stdout)
    assert same["differing"] == []
    assert all(event["precision"] == event["recall"] == "1.00" for event in same["events"])
    store = Store.open(tmp_path / "s")
    page = compare_page(store, "text", "other", [row.key for row in store.plan()[:3]], [])
    assert len([tag for tag, _ in check_page(page) if tag == "img"]) == 6


def test_accounts_of_no_common_pair_are_not_compared(tmp_path: Path, draw_pairs: Any, fusioncli: Any) -> None:
    folders = draw_pairs(2)
    caption(tmp_path / "s", folders)
    caption(tmp_path / "s", folders, prior="failed", captioner_settings={"fail": "1.0"})
    line = {"key": "elsewhere", "events": [{"modality": "visible", "type": "low_light", "severity": "medium"}]}
    (tmp_path / "truth.jsonl").write_text(json.dumps(line) + "\n")
    for other in ("failed", "truth.jsonl"):
        done = fusioncli("store", "compare", "s", "text", other, "--json", "out.json")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert f"no pair is captioned both in text and in {other}" in done.stderr
        assert not (tmp_path / "out.json").exists()


def test_every_store_has_a_card(tmp_path: Path, draw_pairs: Any) -> None:
    caption(tmp_path / "s", draw_pairs(4))
    card = (tmp_path / "s/README.md").read_text()
    assert card.startswith("---\n")
    assert 'data_files: "priors/text/*.parquet"' in card
    assert "4 pairs (visible, infrared)" in card
    assert "\n## Terms\n\nnot stated" in card


def test_a_card_gives_the_terms_of_ones_own_data_set(tmp_path: Path, draw_pairs: Any, fusioncli: Any) -> None:
    visible, infrared = draw_pairs(4)
    (tmp_path / "harbour.yaml").write_text(
        yaml.safe_dump(
            {
                "title": "Harbour at night",
                "folder": ".",
                "task": "ivf",
                "modalities": [{"name": "visible", "channels": 3}, {"name": "infrared", "channels": 1}],
                "splits": {"train": {"folders": {"visible": visible.name, "infrared": infrared.name}}},
                "homepage": "none",
                "terms": "Use it as you like, but name the port",
                "citation": "Port authority, 2024",
            }
        )
    )
    options = ("--root", str(visible.parent), "--store", "s", "--captioner", "measured", "--embedder", "hashing")
    assert fusioncli("caption", "--dataset", "harbour.yaml", *options).returncode == 0
    (tmp_path / "harbour.yaml").unlink()  # the store needs it no longer
    (tmp_path / "s/README.md").unlink()
    assert fusioncli("caption", "--store", "s", "--embedder", "hashing", "--prior", "again").returncode == 0
    card = (tmp_path / "s/README.md").read_text()
    assert "# Harbour at night: images and text priors" in card
    assert "Use it as you like, but name the port" in card and "Citation: Port authority, 2024" in card
    assert "no problems" in fusioncli("store", "verify", "s").stdout


@pytest.mark.slow
def test_ray_gives_the_same_bytes(tmp_path: Path, draw_pairs: Any) -> None:
    """Slow because a local cluster takes seconds to start."""
    pytest.importorskip("ray")
    folders = draw_pairs(12)
    for name, runner in (("local", "local"), ("ray", "ray")):
        caption(tmp_path / name, folders, shard_size=3, runner=runner, workers=2)
        shutil.rmtree(tmp_path / name / "logs")
    files = [path.relative_to(tmp_path / "local") for path in (tmp_path / "local").rglob("*") if path.is_file()]
    assert all((tmp_path / "ray" / path).read_bytes() == (tmp_path / "local" / path).read_bytes() for path in files)
