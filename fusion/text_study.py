"""What the text buys: known degradations are drawn on held-out pairs, and networks are compared on undoing them.

Every pair of the test split gets every degradation, in every severity, on the image it belongs to; a network sees the
degraded pair and is scored against the clean one. The same network runs as several *arms*: with the true text, with
the text of another pair and degradation, without. The drawn pixels are the same for all arms, so differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.augment import Bytes, as_planes, generator
from fusion.methods import NetworkMethod, as_pixels
from fusion.score import score
from fusion.text_findings import CLEAN, Condition, Finding
from fusion.text_space import check_reads
from fusion.tiling import run
from pipeline.degrade import degrade, labels_for
from pipeline.embedders.hashing import HashingEmbedder, HashingSettings
from pipeline.errors import InputError, closest
from pipeline.events import SEVERITIES, Caption, Event
from pipeline.images import read_image
from pipeline.plan import PlanRow
from pipeline.store import Store

TEXTS = ("true", "shuffled", "none")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A network and the text it is given: "true", "shuffled" or "none"."""

    name: str
    method: NetworkMethod
    text: str

    def __post_init__(self) -> None:
        if self.text not in TEXTS:
            raise InputError(f"{self.name}: no text {self.text!r}{closest(self.text, TEXTS)}; use {', '.join(TEXTS)}")
        if self.method.takes_text and self.text == "none":
            raise InputError(f"{self.name}: this network was trained with text; give it the true or the shuffled one")
        if not self.method.takes_text and self.text != "none":
            raise InputError(f"{self.name}: this network reads no text, so {self.text} would say nothing; give it none")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A pair under a condition, and what is said of it. ``number`` seeds the drawing, together with the pair."""

    row: PlanRow
    condition: Condition
    number: int
    caption: Caption


Look = Callable[[Case, tuple[Tensor, Tensor], dict[str, Bytes]], None]  # a case, the pair as seen, fused by arm
Keep = Callable[[str, Sequence[Finding]], None]  # a pair's key and all that was found of it


def conditions(modalities: Sequence[str], labels: Sequence[str] = ()) -> list[Condition]:
    """The clean pair, then every degradation of every image in every severity; ``labels`` keeps some of them.

    Raises InputError for a label that cannot be drawn on either image.
    """
    known = {label for modality in modalities for label in labels_for(modality)}
    for label in labels:
        if label not in known:
            raise InputError(f"no degradation {label!r}{closest(label, known)}; there are: {', '.join(sorted(known))}")
    drawn = [
        Condition(modality=modality, label=label, severity=severity)
        for modality in modalities
        for label in labels_for(modality)
        if not labels or label in labels
        for severity in SEVERITIES
    ]
    return [Condition(modality="", label="", severity=""), *drawn]


def cases(store: Store, wanted: Sequence[Condition], prior: str, split: str, limit: int | None) -> list[Case]:
    """Every chosen pair under every condition, pair by pair. Raises InputError for a split without captions."""
    table = store.rows(prior, columns=["status", "events", "scene"])
    good = [
        (row, said)
        for row, said in zip(store.plan(), table.to_pylist(), strict=True)
        if row.split == split and said["status"] == "ok"
    ]
    if not good:
        raise InputError(f"{store.name}: no captioned pair in the split {split!r}")
    if limit is not None and limit < len(good):
        good = [good[round(step * (len(good) - 1) / max(1, limit - 1))] for step in range(limit)]
    numbers = {condition: number for number, condition in enumerate(conditions(store.header.modalities))}
    return [
        Case(row=row, condition=condition, number=numbers[condition], caption=_told(condition, said))
        for row, said in good
        for condition in wanted
    ]


def draw(case: Case, clean: tuple[Bytes, Bytes], modalities: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The degraded pair, (1, 3, H, W) and (1, 1, H, W), 0..1: the same pixels at every call."""
    planes = [as_planes(clean[0], 3), as_planes(clean[1], 1)]
    condition = case.condition
    if condition.modality:
        index = modalities.index(condition.modality)
        image = planes[index].transpose(1, 2, 0) if index == 0 else planes[index][0]
        random = generator(0, case.number, case.row.pair_id)
        image = degrade(random, np.ascontiguousarray(image), condition.label, condition.severity)
        planes[index] = np.ascontiguousarray(image.transpose(2, 0, 1) if index == 0 else image[None])
    return torch.from_numpy(planes[0])[None], torch.from_numpy(planes[1])[None]


def study(
    store: Store,
    arms: Sequence[Arm],
    every: Sequence[Case],
    *,
    prior: str = "text",
    known: Mapping[str, Sequence[Finding]] | None = None,
    look: Look | None = None,
    keep: Keep | None = None,
    wanted: Callable[[Case], bool] = lambda case: True,
) -> list[Finding]:
    """Run every arm on every case, in the order of ``cases``.

    ``look`` is shown each case and its fused images, ``keep`` is handed the findings of each pair as soon as it is done.
    Pairs of ``known`` findings are not scored again; of those only the cases that are ``wanted`` are fused, to be looked at.

    Raises InputError for a prior whose embedder is not the hashing one (the texts of drawn degradations are embedded
    here, without a model), and WeightsError for an arm that reads texts of another.
    """
    fingerprint = store.fingerprint(prior).get("embedder", {})
    if fingerprint.get("name") != HashingEmbedder.name:
        raise InputError(
            f"{store.name}: drawn degradations need the hashing embedder, the prior {prior!r} was made with "
            f"{fingerprint.get('name')!r}"
        )
    width = int(fingerprint["width"])
    embedder = HashingEmbedder(HashingSettings(width=width))
    for arm in arms:
        if arm.text != "none":
            check_reads(arm.method.weights, fingerprint, f"the prior {prior!r} of {store.name}")

    def embed(caption: Caption) -> Tensor:
        return torch.from_numpy(embedder.embed([embedder.fit(caption).text]))

    findings: list[Finding] = []
    for key, pair in groupby(enumerate(every), key=lambda entry: entry[1].row.key):
        found = list((known or {}).get(key, ()))
        is_known = bool(found)
        references: dict[str, Bytes] = {}
        clean: tuple[Bytes, Bytes] | None = None
        for number, case in pair:
            if is_known and not wanted(case):
                continue
            clean = clean or _clean(store, case.row)
            seen = draw(case, clean, store.header.modalities)
            texts = {"true": embed(case.caption), "shuffled": embed(_other(every, number).caption)}
            fused = {arm.name: _fuse(arm, seen, texts) for arm in arms}
            if not case.condition.modality:  # a pair's first case
                references = fused
            if not is_known:
                found += [_finding(case, name, pixels, clean, references[name]) for name, pixels in fused.items()]
            if look is not None:
                look(case, seen, fused)
        if keep is not None and not is_known:
            keep(key, found)
        findings += found
    return findings


def _clean(store: Store, row: PlanRow) -> tuple[Bytes, Bytes]:
    first, second = (read_image(content, name=row.key) for content in store.image_bytes(row))
    return first.eight_bit(), second.eight_bit(grey=True)


def _finding(case: Case, arm: str, fused: Bytes, clean: tuple[Bytes, Bytes], reference: Bytes) -> Finding:
    """The scores of one fused image; ``reference`` is what the arm makes of the clean pair."""
    scores: dict[str, float | None] = dict(score(*clean, fused, names=("Qabf", "SSIM")))
    scores["PSNR"] = _psnr(fused, reference) if case.condition.modality else None
    return Finding(arm=arm, key=case.row.key, condition=case.condition, scores=scores)


def _fuse(arm: Arm, seen: tuple[Tensor, Tensor], texts: dict[str, Tensor]) -> Bytes:
    text = texts[arm.text] if arm.text != "none" else None
    with torch.inference_mode():
        return as_pixels(run(arm.method.network, *seen, text))


def _psnr(fused: Bytes, reference: Bytes) -> float:
    """Peak 255, over all channels, in dB; 100 for equal images."""
    error = float(np.mean((fused.astype(np.float64) - reference.astype(np.float64)) ** 2))
    return 100.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def _other(every: Sequence[Case], number: int) -> Case:
    """A case of another pair under another condition, always the same one."""
    here = every[number]
    for index in np.random.default_rng(number).permutation(len(every)):
        candidate = every[int(index)]
        if candidate.row.key != here.row.key and candidate.condition.label != here.condition.label:
            return candidate
    raise InputError("shuffling texts needs at least two pairs and two degradations")


def _told(condition: Condition, said: dict[str, Any]) -> Caption:
    """The stored caption, the drawn degradation named first."""
    fields = ("modality", "type", "severity", "description")
    events = tuple(Event(**{name: event[name] for name in fields}) for event in said["events"])
    if condition.modality:
        drawn = Event(modality=condition.modality, type=condition.label, severity=condition.severity)
        events = (drawn, *(event for event in events if event.type != CLEAN))
    return Caption(events=events, scene=said["scene"] or "")
