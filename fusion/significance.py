"""How sure a mean is, and whether one method beats another: bootstrap intervals and a paired permutation test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
FLIPS = 20_000
EXACT_UP_TO = 14  # pairs; 2^14 sign patterns are fewer than the random flips that would replace them
CHUNK = 2_000_000  # numbers per block, so that memory does not grow with the number of images


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A mean over the images on which the metric is defined, with a 95 % bootstrap interval.

    ``undefined`` counts the images without a value. One value has no interval (``low`` and ``high`` are None): what it
    would be over other images cannot be told from it. With no value at all ``mean`` is None too.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int
    undefined: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two methods on the same images: on how many each is better, the mean gain of the first, and a p-value.

    ``p`` is two-sided, for the hypothesis that swapping the two methods on any image changes nothing; None with no
    image in common. ``gain`` is positive when the first is better, whichever way the metric points.
    """

    wins: int
    losses: int
    ties: int
    gain: float | None
    p: float | None


def summarise(values: Sequence[float | None], *, seed: int = 0) -> Summary:
    """Mean and percentile-bootstrap interval (2,000 resamples of the images) of the values that are not None.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    undefined = len(values) - len(known)
    if len(known) == 0:
        return Summary(mean=None, low=None, high=None, count=0, undefined=undefined)
    low, high = _interval(_resampled(known[:, None], seed)[:, 0], len(known))
    return Summary(mean=float(known.mean()), low=low, high=high, count=len(known), undefined=undefined)


def summarise_ratio(over: Sequence[float | None], under: Sequence[float | None], *, seed: int = 0) -> Summary:
    """The ratio of two means over the images where both are known, and its percentile-bootstrap interval.

    Both are resampled together, image by image. An interval says something only where that of the mean of ``under``
    leaves out 0; with a mean of 0 under it there is no ratio. Raises ValueError when the lists differ in length.
    """
    both = [(a, b) for a, b in zip(over, under, strict=True) if a is not None and b is not None]
    known = np.array(both, dtype=np.float64).reshape(-1, 2)
    undefined = len(over) - len(known)
    if len(known) == 0 or known[:, 1].mean() == 0:
        return Summary(mean=None, low=None, high=None, count=len(known), undefined=undefined)
    means = _resampled(known, seed)
    means = means[means[:, 1] != 0]
    low, high = _interval(means[:, 0] / means[:, 1], len(known))
    ratio = float(known[:, 0].mean() / known[:, 1].mean())
    return Summary(mean=ratio, low=low, high=high, count=len(known), undefined=undefined)


def _interval(means: NDArray[np.float64], images: int) -> tuple[float, float] | tuple[None, None]:
    if images < 2:
        return None, None
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _resampled(known: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """The means of RESAMPLES resamples of the rows of (images, columns)."""
    generator = np.random.default_rng(seed)
    means = [
        known[generator.integers(0, len(known), size=(rows, len(known)))].mean(axis=1)
        for rows in _blocks(RESAMPLES, known.size)
    ]
    return np.concatenate(means)


def compare(
    first: Sequence[float | None], second: Sequence[float | None], *, better: str | None = "higher", seed: int = 0
) -> Comparison:
    """Compare two methods image by image, over the images where both have a value.

    The test flips the sign of each paired difference: all 2^n patterns up to 14 images, 20,000 random ones above.
    Raises ValueError when the two lists differ in length. Source: Fisher, "The Design of Experiments", 1935, § 21.
    """
    return compare_many([(first, second)], better=better, seed=seed)[0]


def compare_many(
    pairs: Sequence[tuple[Sequence[float | None], Sequence[float | None]]],
    *,
    better: str | None = "higher",
    seed: int = 0,
) -> list[Comparison]:
    """``compare`` for many pairs of methods on the same images, sharing the random flips."""
    for first, second in pairs:
        if len(first) != len(second):
            raise ValueError(f"{len(first)} and {len(second)} values: a paired test needs the same images in both")
    sign = -1.0 if better == "lower" else 1.0
    table = np.array(
        [
            [sign * (a - b) if a is not None and b is not None else np.nan for a, b in zip(first, second, strict=True)]
            for first, second in pairs
        ],
        dtype=np.float64,
    ).T.reshape(-1, len(pairs))
    there = ~np.isnan(table)
    gains = np.where(there, table, 0.0)
    ps = sign_flip_ps(gains, seed=seed)
    answers = []
    for column in range(len(pairs)):
        known = gains[there[:, column], column]
        answers.append(
            Comparison(
                wins=int((known > 0).sum()),
                losses=int((known < 0).sum()),
                ties=int((known == 0).sum()),
                gain=float(known.mean()) if len(known) else None,
                p=float(ps[column]) if len(known) else None,
            )
        )
    return answers


def sign_flip_p(differences: NDArray[np.float64], *, seed: int = 0) -> float:
    """Two-sided p-value of the mean of paired differences under random sign flips; 1 when all are zero."""
    return float(sign_flip_ps(differences[:, None], seed=seed)[0])


def sign_flip_ps(differences: NDArray[np.float64], *, seed: int = 0) -> NDArray[np.float64]:
    """``sign_flip_p`` of each column of (images, comparisons), under the same flips; a zero difference says nothing."""
    rows, columns = differences.shape
    # a hair below the observed sums, so that patterns equal to them up to rounding count as reaching them; a hair of
    # all that is summed, because where gains and losses cancel the sum itself may be rounding alone
    observed = np.abs(differences.sum(axis=0)) - 1e-9 * np.abs(differences).sum(axis=0)
    reached = np.zeros(columns)
    exact = rows <= EXACT_UP_TO
    total = 2**rows if exact else FLIPS
    generator = np.random.default_rng(seed)
    start = 0
    for step in _blocks(total, max(rows, columns)):
        if exact:
            signs = 1.0 - 2.0 * (np.arange(start, start + step)[:, None] >> np.arange(rows) & 1)
        else:
            signs = 1.0 - 2.0 * generator.integers(0, 2, size=(step, rows), dtype=np.int8)
        reached += (np.abs(signs @ differences) >= observed).sum(axis=0)
        start += step
    ps = reached / total if exact else (reached + 1) / (total + 1)
    return np.where((differences == 0).all(axis=0), 1.0, ps)


def _blocks(rows: int, width: int) -> list[int]:
    """``rows`` cut into pieces of at most CHUNK numbers."""
    step = max(1, min(rows, CHUNK // max(1, width)))
    return [min(step, rows - start) for start in range(0, rows, step)]
