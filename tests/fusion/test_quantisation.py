"""Networks in 8 bits are calibrated on pairs that show something, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fusion.quantisation import export_int8
from pipeline.errors import InputError

pytest.importorskip("onnxruntime")


def test_pairs_that_show_nothing_calibrate_nothing(tmp_path: Path) -> None:
    """Black frames lose nothing in 8 bits, and what was calibrated on them is wrong everywhere else."""
    for kind, mode in (("vi", "RGB"), ("ir", "L")):
        (tmp_path / kind).mkdir()
        for index in range(4):
            Image.new(mode, (64, 48)).save(tmp_path / kind / f"{index}.png")
    with pytest.raises(InputError, match=r"VIF is 0 .*--calibrate VISIBLE INFRARED"):
        export_int8("nano", "onnx", tmp_path / "out", (tmp_path / "vi", tmp_path / "ir"))
    assert not list((tmp_path / "out").iterdir())
