"""The whole line on drawn pairs: captions, store, teacher, student, fused pictures, scores, page."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fusion.bench_run import BenchOptions, PageExtras, make_folder, run_all
from fusion.recipe import Recipe, load_recipe
from fusion.report.section import Section
from fusion.results import BenchResult
from fusion.training import start_run
from pipeline.agreement import Agreement, agreement_rows, compare, prior_labels, truth_labels
from pipeline.atomic import write_text
from pipeline.captioning import CaptionOptions, Source, caption_pairs
from pipeline.console import note
from pipeline.errors import InputError
from pipeline.manifest import load_manifest
from pipeline.pairs import find_pairs
from pipeline.store import Store
from pipeline.synth import draw_pairs
from pipeline.words import counted

if TYPE_CHECKING:
    from pipeline.agreement import Labels

MARK = "quickstart.json"  # in the folder of a quickstart: how many pairs it draws, and their seed
SHOWN = ("student", "teacher", "mean", "maximum", "laplacian")
Done = TypeVar("Done")


@dataclass(frozen=True, kw_only=True)
class QuickstartOptions:
    """``pairs`` are drawn with ``seed``, every fifth held out; ``settings`` are ``key=value`` over both recipes."""

    out: Path = Path("quickstart")
    pairs: int = 40
    seed: int = 7
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class QuickstartResult:
    """Scores on the held-out pairs, and the captioner against the drawn truth over all pairs."""

    bench: BenchResult
    captions: Agreement
    page: Path


def quickstart(options: QuickstartOptions) -> QuickstartResult:
    """Run every stage under ``options.out``. A second run draws and captions nothing anew, and trains again.

    Raises InputError when ``out`` holds something else, or a quickstart of other pairs; ManifestError for the settings.
    """
    out = options.out
    data, store_place = out / "data", out / "stores" / "synthetic"
    teacher, student = out / "runs" / "synthetic-teacher", out / "runs" / "synthetic-student"
    recipes = {stage: load_recipe("quickstart", stage, options.settings) for stage in ("teacher", "student")}
    _claim(out, options)
    clock = Clock()
    truth_file = data / "synthetic" / "truth.jsonl"
    if not truth_file.is_file():
        clock.time(
            f"drawing {counted(options.pairs, 'pair')} of street scenes with known degradations",
            lambda: draw_pairs(data / "synthetic", options.pairs, options.seed),
        )
    manifest = load_manifest("synthetic")
    source = Source(manifest=manifest, pairs=find_pairs(manifest, data), root=data)
    clock.time(
        "captioning what the pixels show, embedding, weighing, packing",
        lambda: caption_pairs(
            CaptionOptions(store=str(store_place), captioner="measured", embedder="hashing", shard_size=16), source
        ),
    )
    store = Store.open(store_place)
    truth, measured = truth_labels(truth_file), prior_labels(store, "text")
    agreement = compare(measured, truth)
    clock.time(
        f"training a {recipes['teacher'].network} network with the text, {recipes['teacher'].steps} steps",
        lambda: start_run(recipes["teacher"], [store_place], teacher, overwrite=True),
    )
    clock.time(
        f"distilling the network {recipes['student'].network}, which needs no text, {recipes['student'].steps} steps",
        lambda: start_run(recipes["student"], [store_place], student, teachers=[teacher], overwrite=True),
    )
    clock.begin("fusing and scoring the held-out pairs")
    bench = run_all(
        BenchOptions(
            datasets=("synthetic",),
            root=data,
            methods={"teacher": str(teacher), "student": str(student)},
            out=out / "bench",
            stores=out / "stores",
            device="cpu",
            command=_command(options),
        ),
        PageExtras(
            title="Quickstart: from drawn pairs to a trained student",
            path=out / "index.html",
            first=(_line_section(clock, options, recipes), _captions_section(agreement, len(source.pairs))),
            last=(_next_section(),),
            notes=_notes(truth, measured),
        ),
    )
    clock.end()
    return QuickstartResult(bench=bench, captions=agreement, page=out / "index.html")


def _claim(out: Path, options: QuickstartOptions) -> None:
    """Make ``out`` and note what is drawn there. Raises InputError for the folder of something else, or of other pairs."""
    asked = {"pairs": options.pairs, "seed": options.seed}
    mark = out / MARK
    if mark.is_file():
        begun = mark.read_text(encoding="utf-8").strip()
        if begun != json.dumps(asked):
            raise InputError(
                f"{out}: a quickstart of {begun} is there, asked for is {json.dumps(asked)}; choose another --out"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out}: holds something else; choose an empty or a new folder with --out")
    make_folder(out)
    write_text(mark, json.dumps(asked) + "\n")


def _command(options: QuickstartOptions) -> str:
    words = ["--out", str(options.out), "--pairs", str(options.pairs), "--seed", str(options.seed)]
    return shlex.join(
        ["fusioncli", "quickstart", *words, *(word for one in options.settings for word in ("--set", one))]
    )


class Clock:
    """Says what begins, and keeps how long it took."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []
        self._running: tuple[str, float] | None = None

    def begin(self, what: str) -> None:
        """Start a step, ending the one before."""
        self.end()
        note(f"{len(self.steps) + 1}. {what}")
        self._running = (what, time.perf_counter())

    def end(self) -> None:
        """End the running step."""
        if self._running:
            what, since = self._running
            self.steps.append((what, time.perf_counter() - since))
            self._running = None

    def time(self, what: str, work: Callable[[], Done]) -> Done:
        """Do ``work`` as one step."""
        self.begin(what)
        done = work()
        self.end()
        return done


def next_commands() -> tuple[str, ...]:
    """What to run on one's own pairs."""
    return (
        "fusioncli caption --pairs VISIBLE_FOLDER INFRARED_FOLDER --store stores/mine "
        "--captioner measured --embedder hashing",
        "fusioncli train-teacher --store stores/mine --recipe tiny --out runs/mine-teacher",
        "fusioncli distill --store stores/mine --recipe tiny --teacher runs/mine-teacher --out runs/mine-student",
        "fusioncli fuse VISIBLE_FOLDER INFRARED_FOLDER --weights runs/mine-student --out fused",
        "fusioncli score VISIBLE_FOLDER INFRARED_FOLDER fused",
    )


def _line_section(clock: Clock, options: QuickstartOptions, recipes: Mapping[str, Recipe]) -> Section:
    rows = "".join(
        f"<tr><th scope='row'>{index}</th><td>{escape(what)}</td><td>{seconds:.0f} s</td></tr>"
        for index, (what, seconds) in enumerate(clock.steps, start=1)
    )
    steps = len(clock.steps) + 1
    rows += f"<tr><th scope='row'>{steps}</th><td>fusing and scoring the held-out pairs, this page</td><td>–</td></tr>"
    html = f"""<div class="said"><p>Everything here was made on this machine a moment ago, without a network or a download: the
pictures are drawn, the captions are measured off the pixels, and both networks were trained for
{recipes["teacher"].steps} and {recipes["student"].steps} steps on the drawn training pairs. The pictures below were held
out. So little training on drawn scenes says how the line works, not how good the method is.</p></div>
<div class="card text"><div class="scroll"><table><thead><tr><th></th><th>step (seed {options.seed})</th><th>time</th></tr></thead>
<tbody>{rows}</tbody></table></div></div>"""
    return Section(anchor="line", title="What happened", html=html)


def _captions_section(agreement: Agreement, pairs: int) -> Section:
    rows = "".join(
        f"<tr><th scope='row'>{escape(label)}</th>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        for label, *cells in agreement_rows(agreement)
    )
    html = f"""<div class="said"><p>The degradations of a drawn pair are known, so the embedded captioner can be checked:
of what it named, how much was really there (precision), and of what was there, how much it named (recall), over all
{pairs} pairs. It measures pixels and understands nothing; a vision-language model takes its place on real work.</p></div>
<div class="card"><div class="scroll"><table><thead><tr><th>event</th><th>right</th><th>named, not there</th>
<th>there, not named</th><th>precision</th><th>recall</th></tr></thead><tbody>{rows}</tbody></table></div></div>"""
    return Section(anchor="captions", title="Captions against the truth", html=html)


def _next_section() -> Section:
    commands = "\n".join(escape(command) for command in next_commands())
    html = f"""<p>The same line on your own pairs. Files belong together by their name without the suffix.</p>
<pre>{commands}</pre>
<p>With a GPU, caption with a vision-language model and CLIP instead (<code>--captioner vllm --embedder clip</code>), and
train with <code>--recipe paper-ivf</code>. <code>fusioncli doctor</code> says what this machine can run.</p>"""
    return Section(anchor="next", title="Next: your own pairs", html=html)


def _notes(truth: Labels, measured: Labels) -> dict[str, list[str]]:
    """For each pair what was drawn into it and what the captioner named."""

    def listed(events: frozenset[tuple[str | None, str]]) -> str:
        named = sorted(f"{label.replace('_', ' ')} ({modality})" for modality, label in events)
        return ", ".join(named) or "nothing, a clean pair"

    return {
        key: [f"Drawn in: {listed(events)}.", f"Captioner: {listed(measured.get(key, frozenset()))}."]
        for key, events in truth.items()
    }
