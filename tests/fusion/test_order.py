"""The global order and the augmentation: pure functions, complete epochs, weighted mixing."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.augment import DARKEST, as_planes, centre_crop, draw_crop, generator
from fusion.order import Order, shuffled
from fusion.recipe import Recipe, load_recipe
from pipeline.errors import InputError


def names(number: int, prefix: str = "p") -> list[str]:
    return [f"{prefix}{index}" for index in range(number)]


def test_an_epoch_draws_every_pair_once_and_the_next_in_another_order() -> None:
    order = Order(7, [names(50)])
    first, second = ([order.at(epoch * 50 + place).index for place in range(50)] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second and first != list(range(50))


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(0, 10**6), st.integers(0, 5))
def test_any_place_can_be_looked_up_alone(number: int, seed: int, epoch: int) -> None:
    places = range(epoch * number, (epoch + 1) * number)
    running = Order(seed, [names(number)])
    in_turn = [running.at(place) for place in range((epoch + 1) * number)][epoch * number :]
    assert [Order(seed, [names(number)]).at(place) for place in places] == in_turn
    assert [running.at(place) for place in reversed(places)] == in_turn[::-1]


def test_the_order_hangs_on_identity_not_on_position() -> None:
    ids = names(30)
    backwards = ids[::-1]
    assert [ids[i] for i in shuffled(3, 1, ids)] == [backwards[i] for i in shuffled(3, 1, backwards)]
    without = [name for name in ids if name != "p4"]
    assert [name for name in (ids[i] for i in shuffled(3, 1, ids)) if name != "p4"] == [
        without[i] for i in shuffled(3, 1, without)
    ]


def test_stores_are_mixed_by_their_shares_and_each_in_its_own_epochs() -> None:
    stores = [names(30, "a"), names(10, "b")]
    order = Order(1, stores, [1.0, 1.0])
    draws = [order.at(place) for place in range(120)]
    assert Counter(draw.store for draw in draws) == {0: 60, 1: 60}
    for store, pairs in enumerate(stores):
        counts = Counter(draw.index for draw in draws if draw.store == store)
        assert set(counts.values()) == {60 // len(pairs)}
        visits = Counter((draw.index, draw.visit) for draw in draws if draw.store == store)
        assert set(visits.values()) == {1}  # so a pair drawn twice in one epoch is augmented in two ways
    small = [(place, draw.index) for place, draw in enumerate(draws[:40]) if draw.store == 1]
    apart = [after - place for place, index in small for after, other in small if other == index and after > place]
    assert len(apart) == 10 and sum(distance > 1 for distance in apart) >= 7, "its two visits are places of their own"
    by_size = Order(1, stores)
    assert Counter(by_size.at(place).store for place in range(40)) == {0: 30, 1: 10}


@pytest.mark.parametrize("shares", [[1.0], [1.0, 0.0], [-1.0, 3.0], [1.0, 1e-9], [1.0, math.nan], [math.inf, 1.0]])
def test_impossible_shares_are_refused(shares: list[float]) -> None:
    with pytest.raises(InputError, match="share"):
        Order(0, [names(3, "a"), names(3, "b")], shares)


def pictures(height: int = 70, width: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel of the visible image tells its place in red and green; the infrared image repeats the red."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    visible = np.dstack([rows, columns, np.full_like(rows, 9)])
    return visible, rows


def tiny(**changes: object) -> Recipe:
    return load_recipe("tiny", "teacher", [f"{key}={value}" for key, value in {"crop": 48, **changes}.items()])


def test_both_images_are_cut_at_the_same_place_and_flipped_alike() -> None:
    visible, infrared = pictures()
    seen = set()
    for visit in range(40):
        crop = draw_crop(visible, infrared, tiny(turns=True), generator(0, visit, "x"))
        assert crop.visible.shape == (3, 48, 48) and crop.infrared.shape == (1, 48, 48)
        assert np.array_equal(crop.visible[0], crop.infrared[0])
        steps = np.rint(np.diff(crop.visible[:2], axis=1)[:, 0, 0] * 255)
        seen.add((float(crop.visible[0, 0, 0]), *steps))
    assert len(seen) > 20  # places and orientations vary


def test_augmentation_is_a_function_of_seed_visit_and_pair() -> None:
    visible, infrared = pictures()

    def corner(seed: int, visit: int, pair: str) -> list[float]:
        return draw_crop(visible, infrared, tiny(), generator(seed, visit, pair)).visible[:, 0, 0].tolist()

    assert corner(1, 2, "x") == corner(1, 2, "x")
    others = [corner(2, 2, "x"), corner(1, 3, "x"), corner(1, 2, "y")]
    assert sum(other != corner(1, 2, "x") for other in others) >= 2


def test_small_images_are_mirrored_up_to_the_crop() -> None:
    visible, infrared = pictures(30, 20)
    crop = draw_crop(visible, infrared, tiny(flips="false"), generator(0, 0, "x"))
    assert crop.visible.shape == (3, 48, 48)
    assert np.array_equal(crop.infrared[0, 30:48], crop.infrared[0, 29:11:-1])


def test_darkening_stays_within_its_bounds() -> None:
    flat = np.full((48, 48), 200, dtype=np.uint8)
    values = [
        float(draw_crop(flat, flat, tiny(darken_infrared=1.0), generator(0, visit, "x")).infrared.mean() * 255 / 200)
        for visit in range(60)
    ]
    assert DARKEST[1] <= min(values) < 0.4 and 0.85 < max(values) <= 1
    assert draw_crop(flat, flat, tiny(), generator(0, 0, "x")).infrared.mean() == pytest.approx(200 / 255)


@pytest.mark.parametrize(("key", "place"), [("darken_visible", 0), ("darken_infrared", 1)])
def test_a_share_of_the_pairs_is_darkened_and_those_by_any_factor(key: str, place: int) -> None:
    flat = np.full((48, 48), 200, dtype=np.uint8)
    factors = []
    for visit in range(200):
        crop = draw_crop(flat, flat, tiny(**{key: 0.4}), generator(0, visit, "x"))
        means = [float(plane.mean()) * 255 / 200 for plane in (crop.visible, crop.infrared)]
        assert means[1 - place] == pytest.approx(1), "the other image stays as it is"
        factors.append(means[place])
    darkened = [factor for factor in factors if factor < 0.999]
    assert len(darkened) / 200 == pytest.approx(0.4, abs=0.12)
    assert DARKEST[place] <= min(darkened) < 0.4 and max(darkened) > 0.85


def test_zoomed_crops_keep_their_size() -> None:
    visible, infrared = pictures(200, 200)
    spans = []
    for visit in range(20):
        crop = draw_crop(visible, infrared, tiny(zoom=1.0), generator(0, visit, "x"))
        assert crop.visible.shape == (3, 48, 48)
        spans.append(float(np.ptp(crop.infrared) * 255))
    assert min(spans) < 40 and max(spans) > 70


def test_centre_crop_and_planes() -> None:
    visible, infrared = pictures(60, 90)
    crop = centre_crop(visible, infrared, 48)
    assert crop.visible.shape == (3, 48, 48) and crop.infrared[0, 0, 0] * 255 == pytest.approx(6)
    assert as_planes(infrared, 3).shape == (3, 60, 90)
    assert centre_crop(visible, infrared, 500).infrared.shape == (1, 60, 90)
    small = centre_crop(visible[:30], infrared[:30], 500)
    assert small.visible.shape == (3, 48, 90) and np.array_equal(small.infrared[0, 30:], small.infrared[0, 29:11:-1])
