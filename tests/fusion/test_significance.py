"""Intervals and tests against known answers and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fusion.significance import compare, sign_flip_p, summarise, summarise_ratio


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


def test_one_image_has_an_interval_of_no_width() -> None:
    summary = summarise([0.25])
    assert (summary.low, summary.mean, summary.high) == (0.25, 0.25, 0.25)


def test_wins_losses_and_direction() -> None:
    first, second = [1.0, 2.0, 3.0, None], [0.0, 2.0, 5.0, 1.0]
    up, down = compare(first, second), compare(first, second, better="lower")
    assert (up.wins, up.losses, up.ties) == (1, 1, 1)
    assert (down.wins, down.losses, down.gain) == (1, 1, pytest.approx(1 / 3))
    assert up.gain == pytest.approx(-1 / 3)


def test_five_wins_of_five_have_the_textbook_p() -> None:
    assert compare([2.0, 3, 4, 5, 6], [1.0, 1, 1, 1, 1]).p == pytest.approx(2 / 2**5)


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
