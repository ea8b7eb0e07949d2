"""Detection and segmentation scores with hand-made predictions whose score is known, and with tiny random models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion.boxes import target_boxes
from fusion.detection import Box, average_precision, load_detector, read_boxes, read_folder
from fusion.downstream import read_mask
from fusion.segmentation import load_segmenter, mean_iou
from pipeline.errors import InputError

SIZES = {"a": (100, 200), "b": (100, 200)}


def box(left: float, width: float = 40, label: int = 0, confidence: float = 1.0) -> Box:
    return Box(label=label, left=left, top=10, width=width, height=40, confidence=confidence)


LABELS = {"a": [box(0), box(100)], "b": [box(50)]}


def test_the_labels_themselves_are_perfect() -> None:
    score = average_precision(LABELS, LABELS, SIZES)
    assert (score.at_50, score.at_50_to_95) == (pytest.approx(1), pytest.approx(1))
    assert score.classes == {"person": pytest.approx(1), "bicycle": None, "car": None}
    assert (score.images, score.labels) == (2, 3)


def test_nothing_found_is_zero() -> None:
    assert average_precision(LABELS, {"a": [], "b": []}, SIZES).at_50 == 0


def test_a_known_iou_counts_at_its_thresholds() -> None:
    """A box moved by 10 of 40 pixels has IoU 30 / 50 = 0.6: right at 0.5, 0.55 and 0.6, wrong at the other seven."""
    moved = {"a": [box(10), box(110)], "b": [box(60)]}
    score = average_precision(LABELS, moved, SIZES)
    assert score.at_50 == pytest.approx(1)
    assert score.at_50_to_95 == pytest.approx(0.3)


def test_a_confident_mistake_halves_the_precision() -> None:
    """The first answer is wrong, then all three labels are found: precision is 3/4 at best, at every recall."""
    found = {
        "a": [box(150, confidence=0.9), box(0, confidence=0.8), box(100, confidence=0.7)],
        "b": [box(50, confidence=0.6)],
    }
    assert average_precision(LABELS, found, SIZES).at_50 == pytest.approx(0.75, abs=1e-3)


def test_one_of_two_classes_missed_is_half() -> None:
    labels = {"a": [box(0), box(100, label=2)], "b": []}
    score = average_precision(labels, {"a": [box(0)], "b": []}, SIZES)
    assert score.at_50 == pytest.approx(0.5)
    assert score.classes["car"] == 0


def test_yolo_files_become_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("2 0.5 0.5 0.2 0.4 0.75\n\n")
    (found,) = read_boxes(tmp_path / "a.txt", (100, 200), 3, with_confidence=True)
    assert (found.left, found.top, found.width, found.height) == pytest.approx((80, 30, 40, 40))
    assert (found.label, found.confidence) == (2, 0.75)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("7 .5 .5 .1 .1", "class 7"),
        ("0 50 .5 .1 .1", "out of 0..1"),
        ("0 .5 .5 .1", "expected 5"),
        ("x y z u v", "not"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, expected: str) -> None:
    (tmp_path / "a.txt").write_text(f"0 .5 .5 .1 .1\n{line}\n")
    with pytest.raises(InputError, match="a.txt:2") as error:
        read_boxes(tmp_path / "a.txt", (100, 200), 3, with_confidence=False)
    assert expected in str(error.value)


def test_labels_that_are_no_text_are_named(tmp_path: Path) -> None:
    """As an editor on Windows may save them."""
    (tmp_path / "a.txt").write_bytes("0 0.5 0.5 0.1 0.1\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"a\.txt: not a label file in UTF-8"):
        read_boxes(tmp_path / "a.txt", (100, 200), 1, with_confidence=False)
    with pytest.raises(InputError, match=r"a\.txt: not a label file in UTF-8"):
        target_boxes(tmp_path / "a.txt", 100, 200)
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbf0 0.5 0.5 0.1 0.1\n")  # a byte order mark alone is fine
    assert len(read_boxes(tmp_path / "b.txt", (100, 200), 1, with_confidence=False)) == 1


def test_an_image_without_a_file_is_no_empty_prediction(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(InputError, match="1 of 2 images have no text file: b"):
        read_folder(tmp_path, SIZES, 3, with_confidence=True)


def test_the_labels_of_msrs_are_read_whole(data_root: Path) -> None:
    folder = data_root / "msrs" / "test" / "det_labels" / "fusion"
    sizes = {path.stem: (480, 640) for path in sorted(folder.glob("*.txt"))[:40]}
    labels = read_folder(folder, sizes, 3, with_confidence=False)
    lines = sum(len((folder / f"{stem}.txt").read_text().split("\n")) for stem in sizes)
    assert 0 < sum(map(len, labels.values())) <= lines
    assert average_precision(labels, labels, sizes).at_50_to_95 == pytest.approx(1)


def test_mean_iou_by_hand() -> None:
    """Class 0: 3 of 4 pixels agree, none beyond; class 1: 3 there, 4 named."""
    label = np.array([[0, 0, 0, 0], [1, 1, 1, 255]], dtype=np.uint8)
    found = np.array([[0, 0, 0, 1], [1, 1, 1, 0]], dtype=np.uint8)
    score = mean_iou([(label, found)], ("road", "car", "person"))
    assert score.classes == {"road": 3 / 4, "car": 3 / 4, "person": None}
    assert score.mean == 0.75


def test_masks_that_do_not_fit_are_refused() -> None:
    label = np.zeros((4, 4), dtype=np.uint8)
    with pytest.raises(InputError, match="4 x 5"):
        mean_iou([(label, np.zeros((5, 4), dtype=np.uint8))], ("road",))
    with pytest.raises(InputError, match="class 3"):
        mean_iou([(label, label + 3)], ("road", "car"))


@pytest.mark.parametrize("colours", [4, 256])
def test_a_mask_with_a_palette_holds_the_numbers_behind_its_colours(tmp_path: Path, colours: int) -> None:
    """As PASCAL VOC keeps its masks: the colours are for looking at."""
    numbers = (np.arange(24).reshape(4, 6) * 10 % colours).astype(np.uint8)
    mask = Image.fromarray(numbers)
    mask.putpalette(np.random.default_rng(0).integers(0, 256, 3 * colours, dtype=np.uint8).tobytes())
    assert mask.mode == "P"
    mask.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), numbers)


def test_a_mask_of_one_bit_has_the_classes_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), np.eye(4, dtype=np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_a_picture_is_no_mask(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (6, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: not a mask of class numbers"):
        read_mask(tmp_path / "a.png")


def test_a_tiny_random_detector_gives_boxes_inside_its_classes(tmp_path: Path) -> None:
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    config = YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=[64, 80],
        patch_size=16, num_detection_tokens=5, id2label={0: "Person", 1: "car", 2: "tree"},
    )  # fmt: skip
    YolosForObjectDetection(config).save_pretrained(tmp_path)
    YolosImageProcessor(size={"height": 64, "width": 80}).save_pretrained(tmp_path)
    boxes = load_detector(str(tmp_path), threshold=0.0)(np.zeros((48, 60, 3), dtype=np.uint8))
    assert {found.label for found in boxes} <= {0, 2}
    assert all(0 <= found.confidence <= 1 for found in boxes)
    with pytest.raises(InputError, match="knows none of lorry"):
        load_detector(str(tmp_path), names=("lorry",))


def test_a_tiny_random_segmenter_masks_every_pixel(tmp_path: Path) -> None:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3], strides=[4, 2],
        num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=3,
    )  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    mask = load_segmenter(str(tmp_path))(np.zeros((48, 60), dtype=np.uint8))
    assert mask.shape == (48, 60)
    assert mask.max() < 3


def test_what_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not loadable"):
        load_detector(str(tmp_path))
    with pytest.raises(InputError, match="not loadable"):
        load_segmenter(str(tmp_path))
