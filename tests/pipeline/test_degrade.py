"""Degradations do what their names say, more so with severity, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from pipeline.canvas import clouds
from pipeline.degrade import DEGRADATIONS, degrade, labels_for, shifted
from pipeline.errors import InputError
from pipeline.events import SEVERITIES
from pipeline.task_file import load_task

Image = NDArray[np.float32]


def picture(shape: tuple[int, ...] = (96, 128, 3)) -> Image:
    """Texture with the falling spectrum of natural images, between 0.1 and 0.9."""
    plane = np.clip(0.5 + 0.16 * clouds(np.random.default_rng(0), shape[0], shape[1], 4, 5), 0.1, 0.9)
    return np.broadcast_to(plane if len(shape) == 2 else plane[:, :, None], shape).astype(np.float32)


def drawn(label: str, severity: str, image: Image | None = None) -> Image:
    return degrade(np.random.default_rng(5), picture() if image is None else image, label, severity)


def test_labels_are_those_of_the_task() -> None:
    task = load_task("ivf")
    assert set(DEGRADATIONS) == set(task.events) - {task.default}
    assert set(SEVERITIES) == set(task.severities)
    for label, entry in DEGRADATIONS.items():
        assert entry.label == label
        allowed = task.events[label].modalities or ("visible", "infrared")
        assert set(entry.modalities) <= set(allowed)


def test_each_modality_has_its_own() -> None:
    assert "low_light" in labels_for("visible")
    assert "low_light" not in labels_for("infrared")
    assert "sensor_artifact" in labels_for("infrared")


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("label", DEGRADATIONS)
@pytest.mark.parametrize("shape", [(33, 47), (33, 47, 3)])
def test_shape_type_range_and_determinism(label: str, severity: str, shape: tuple[int, ...]) -> None:
    image = picture(shape)
    kept = image.copy()
    one, two = (degrade(np.random.default_rng(3), image, label, severity) for _ in range(2))
    assert one.shape == shape
    assert one.dtype == np.float32
    assert one.min() >= 0
    assert one.max() <= 1
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(image, kept)
    assert not np.array_equal(one, image)


@pytest.mark.parametrize("label", DEGRADATIONS)
def test_severity_orders_the_damage(label: str) -> None:
    errors = [float(np.mean((drawn(label, severity) - picture()) ** 2)) for severity in SEVERITIES]
    assert errors[0] > 1e-5
    assert errors[0] < errors[1] < errors[2]


def test_low_light_darkens_to_a_known_level() -> None:
    white = np.ones((8, 8), dtype=np.float32)
    for severity, gain in zip(SEVERITIES, (0.50, 0.28, 0.13), strict=True):
        assert drawn("low_light", severity, white).mean() == pytest.approx(gain, rel=0.11)


def test_low_light_sinks_shadows_by_a_power_of_one_and_a_quarter() -> None:
    white, grey = np.ones((8, 8), dtype=np.float32), np.full((8, 8), 0.5, dtype=np.float32)
    for severity in SEVERITIES:
        gain = drawn("low_light", severity, white)  # the same draw
        np.testing.assert_allclose(drawn("low_light", severity, grey), gain * 0.5**1.25, rtol=1e-5)


@pytest.mark.parametrize("shape", [(33, 47), (33, 47, 3)])
def test_over_exposure_bleeds_evenly_four_pixels_around(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).random(shape).astype(np.float32)
    gain = 3.2 * np.random.default_rng(5).uniform(0.95, 1.05)
    bright = image * gain + 0.14
    size = (9, 9, 1)[: len(shape)]
    expected = bright + 0.5 * uniform_filter(np.maximum(bright - 1, 0), size, mode="nearest")
    dim = expected < 1
    assert 100 < dim.sum() < dim.size
    np.testing.assert_allclose(drawn("over_exposure", "severe", image)[dim], expected[dim], atol=1e-5)


def test_over_exposure_clips_highlights() -> None:
    shares = [float((drawn("over_exposure", severity) >= 0.999).mean()) for severity in SEVERITIES]
    assert (picture() >= 0.999).mean() == 0
    assert shares[0] > 0.1
    assert shares == sorted(shares)


def test_low_contrast_scales_the_deviation_exactly() -> None:
    for severity, kept in zip(SEVERITIES, (0.50, 0.32, 0.18), strict=True):
        assert drawn("low_contrast", severity).std() / picture().std() == pytest.approx(kept, rel=1e-3)


def test_noise_has_the_stated_deviation_and_no_bias() -> None:
    middle = np.full((200, 200), 0.5, dtype=np.float32)
    for severity, sigma in zip(SEVERITIES, (0.035, 0.07, 0.13), strict=True):
        for label in ("high_noise", "infrared_noise"):
            noise = drawn(label, severity, middle) - middle
            assert noise.std() == pytest.approx(sigma * np.sqrt(0.9), rel=0.03)
            assert abs(float(noise.mean())) < 0.003


def test_motion_blur_keeps_the_mean_and_spreads_a_point_over_its_path() -> None:
    point = np.zeros((41, 41), dtype=np.float32)
    point[20, 20] = 1
    for severity, length in zip(SEVERITIES, (5, 9, 15), strict=True):
        blurred = drawn("motion_blur", severity, point)
        assert blurred.sum() == pytest.approx(1, abs=1e-5)
        rows, columns = np.nonzero(blurred)
        assert np.hypot(np.ptp(rows), np.ptp(columns)) == pytest.approx(length - 1, abs=1.6)


def test_stripes_are_constant_along_a_line() -> None:
    middle = np.full((60, 80), 0.5, dtype=np.float32)
    directions = set()
    for seed in range(12):
        striped = degrade(np.random.default_rng(seed), middle, "sensor_artifact", "moderate")
        along = np.ptp(striped, axis=0).max(), np.ptp(striped, axis=1).max()
        assert min(along) == 0
        assert max(along) > 0.1
        directions.add(int(np.argmin(along)))
    assert directions == {0, 1}


def test_one_line_in_eighty_of_severe_stripes_is_dead() -> None:
    middle = np.full((160, 240), 0.5, dtype=np.float32)
    for seed in range(12):
        for severity in SEVERITIES:
            striped = degrade(np.random.default_rng(seed), middle, "sensor_artifact", severity)
            lines = striped[0] if np.ptp(striped, axis=0).max() == 0 else striped[:, 0]
            dead = int(((lines == 0) | (lines == 1)).sum())
            assert dead == (len(lines) // 80 if severity == "severe" else 0)


def test_shifted_moves_whole_pixels() -> None:
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(shifted(image, 1, 0), [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]])
    np.testing.assert_array_equal(shifted(image, 0, -1)[0], [1, 2, 3, 3])


def test_unknown_words_get_the_closest_known_one() -> None:
    with pytest.raises(InputError, match="did you mean 'low_light'"):
        degrade(np.random.default_rng(0), picture(), "low_ligth", "slight")
    with pytest.raises(InputError, match="did you mean 'severe'"):
        degrade(np.random.default_rng(0), picture(), "low_light", "sever")
