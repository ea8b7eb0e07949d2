"""Intervals and tests against known answers and SciPy."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy import stats

from fusion.significance import compare, compare_many, sign_flip_p, summarise, summarise_ratio


def test_mean_and_interval_by_scipys_bootstrap() -> None:
    values = np.random.default_rng(5).gamma(2.0, size=60)
    ours = summarise(values.tolist())
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, rel=0.03)
    assert ours.high == pytest.approx(theirs.high, rel=0.03)


def test_a_ratio_and_its_interval_by_scipys_bootstrap() -> None:
    random = np.random.default_rng(5)
    under = random.gamma(4.0, size=60)
    over = 0.8 * under + random.normal(0, 0.5, size=60)
    ours = summarise_ratio(over.tolist(), under.tolist())
    theirs = stats.bootstrap(
        (over, under),
        lambda a, b, axis: a.mean(axis=axis) / b.mean(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=5000,
        rng=1,
    ).confidence_interval
    assert ours.mean == pytest.approx(over.mean() / under.mean())
    assert ours.low == pytest.approx(theirs.low, rel=0.03)
    assert ours.high == pytest.approx(theirs.high, rel=0.03)


def test_the_ratio_of_two_losses_is_that_of_two_gains() -> None:
    generator = np.random.default_rng(8)
    over, under = generator.normal(1, 0.5, size=40), generator.normal(2, 0.5, size=40)
    gains, losses = summarise_ratio(list(over), list(under)), summarise_ratio(list(-over), list(-under))
    assert (losses.low, losses.mean, losses.high) == pytest.approx((gains.low, gains.mean, gains.high))


def test_a_ratio_over_images_where_both_are_known() -> None:
    known = summarise_ratio([1.0, None, 3.0, 5.0], [2.0, 7.0, None, 10.0])
    assert (known.mean, known.count, known.undefined) == (0.5, 2, 2)
    assert summarise_ratio([1.0, 2.0], [1.0, -1.0]).mean is None
    assert summarise_ratio([None], [1.0]).mean is None


def test_undefined_values_are_counted_and_never_enter_the_mean() -> None:
    summary = summarise([1.0, None, 3.0, None])
    assert (summary.mean, summary.count, summary.undefined) == (2.0, 2, 2)
    nothing = summarise([None, None])
    assert (nothing.mean, nothing.low, nothing.count, nothing.undefined) == (None, None, 0, 2)


def test_one_image_says_nothing_of_others() -> None:
    for summary in (summarise([0.25, None]), summarise_ratio([0.25, 3.0], [1.0, None])):
        assert (summary.low, summary.mean, summary.high, summary.count) == (None, 0.25, None, 1)


def test_wins_losses_and_direction() -> None:
    first, second = [1.0, 2.0, 3.0, None], [0.0, 2.0, 5.0, 1.0]
    up, down = compare(first, second), compare(first, second, better="lower")
    assert (up.wins, up.losses, up.ties) == (1, 1, 1)
    assert (down.wins, down.losses, down.gain) == (1, 1, pytest.approx(1 / 3))
    assert up.gain == pytest.approx(-1 / 3)


def test_five_wins_of_five_have_the_textbook_p() -> None:
    assert compare([2.0, 3, 4, 5, 6], [1.0, 1, 1, 1, 1]).p == pytest.approx(2 / 2**5)


@pytest.mark.parametrize("differences", [["0.1", "0.1", "0.1", "-0.3"], ["0.1", "0.2", "0.4"], ["0.3", "-0.1", "-0.1"]])
def test_p_is_that_of_exact_arithmetic(differences: list[str]) -> None:
    """Gains and losses that cancel sum to 0; in floating point to a rounding error, which no pattern has to reach."""
    exact = [Fraction(value) for value in differences]
    patterns = list(product((1, -1), repeat=len(exact)))
    sums = [abs(sum(sign * value for sign, value in zip(pattern, exact, strict=True))) for pattern in patterns]
    expected = sum(total >= abs(sum(exact)) for total in sums) / len(sums)
    assert sign_flip_p(np.array([float(value) for value in differences])) == expected


def test_a_random_test_never_says_that_it_cannot_be() -> None:
    """Of 20,000 random flips none reaches thirty wins of thirty, which does not make their probability 0."""
    assert sign_flip_p(np.ones(30)) == pytest.approx(1 / 20_001)


@pytest.mark.parametrize("count", [14, 40])
def test_many_comparisons_at_once_are_those_made_one_by_one(count: int) -> None:
    """So many that the flips are taken in several blocks."""
    generator = np.random.default_rng(4)
    gains = generator.normal(0.3, 1, size=(150, count))
    together = compare_many([(row.tolist(), [0.0] * count) for row in gains])
    alone = [compare(row.tolist(), [0.0] * count) for row in gains[::50]]
    assert [one.gain for one in together[::50]] == pytest.approx([one.gain for one in alone])
    assert [one.p for one in together[::50]] == pytest.approx([one.p for one in alone], abs=0 if count == 14 else 0.01)


@pytest.mark.parametrize("count", [10, 60])
def test_p_is_scipys_permutation_p(count: int) -> None:
    differences = np.random.default_rng(2).normal(0.25, 1, size=count)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=50_000, rng=3
    ).pvalue
    assert sign_flip_p(differences) == pytest.approx(theirs, abs=0.01)


def test_same_method_twice_is_no_evidence() -> None:
    same = compare([1.0, 2.0], [1.0, 2.0])
    assert (same.p, same.wins, same.ties) == (1.0, 0, 2)


def test_nothing_in_common() -> None:
    assert compare([None, 1.0], [1.0, None]).p is None
    with pytest.raises(ValueError, match="same images"):
        compare([1.0], [1.0, 2.0])


def test_p_is_uniform_enough_under_no_difference() -> None:
    """With no true difference about one test in twenty says p < 0.05."""
    generator = np.random.default_rng(0)
    ps = [sign_flip_p(generator.normal(size=12)) for _ in range(400)]
    assert 0.02 < np.mean(np.array(ps) < 0.05) < 0.09
