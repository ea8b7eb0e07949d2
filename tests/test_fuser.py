"""The Fuser class: what goes in comes out of the same kind, with a network whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fresh_network import assert_safe_in_threads, fresh_weights, picture, soft_maximum
from fusion import Fuser
from fusion.fused_image import Output
from fusion.inference import fuse_file
from pipeline.errors import FusionError, ImageError, InputError


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nano network with its fresh weights: a soft maximum of both lumas, which keeps the visible chroma."""
    return fresh_weights(tmp_path_factory.mktemp("weights") / "nano")


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "pil", "torch"])
def test_what_goes_into_a_fuser_comes_out(weights: Path, kind: str) -> None:
    fuser = Fuser.from_pretrained(weights)
    generator = np.random.default_rng(0)
    visible, infrared = generator.random((20, 28, 3)), generator.random((20, 28))
    expected = soft_maximum(visible, infrared)
    if kind == "pil":
        pair = [Image.fromarray((array * 255).round().astype(np.uint8)) for array in (visible, infrared)]
        fused = fuser(*pair)
        assert isinstance(fused, Image.Image)
        result = np.asarray(fused) / 255
    elif kind == "torch":
        fused = fuser(torch.from_numpy(visible).permute(2, 0, 1).float(), torch.from_numpy(infrared)[None].float())
        result = fused.permute(1, 2, 0).numpy()
    else:
        top = 1 if kind == "float32" else np.iinfo(kind).max
        arrays = [(array * top).round(0 if top > 1 else 12).astype(kind) for array in (visible, infrared)]
        fused = fuser(*arrays)
        assert fused.dtype == np.dtype(kind)
        batch = fuser(arrays[0][None], arrays[1][None])
        np.testing.assert_array_equal(batch[0], fused)
        result = fused / top
    assert np.abs(result - expected).max() < 0.012


def test_a_fuser_is_safe_in_several_threads(weights: Path) -> None:
    assert_safe_in_threads(Fuser.from_pretrained(weights))


def test_a_fuser_refuses_what_it_cannot_fuse(weights: Path) -> None:
    fuser = Fuser.from_pretrained(weights)
    with pytest.raises(InputError, match=r"0\.\.1, found"):
        fuser(np.full((9, 9, 3), 2.0), np.zeros((9, 9)))
    with pytest.raises(InputError, match="cannot fuse list"):
        fuser([1], [2])
    with pytest.raises(InputError, match="differ in size"):
        fuser(np.zeros((9, 9, 3)), np.zeros((9, 10)))
    for shapes in (
        ((9, 9, 3), (9, 9, 1)),
        ((9, 9, 3), (9, 9, 3)),
        ((9, 9, 4), (9, 9)),
        ((9, 9), (9, 9, 1)),
        ((9, 9, 3), (1, 9, 9)),
        ((9,), (9,)),
    ):
        with pytest.raises(InputError, match=r"expected \(H, W, 3\) or \(H, W\), and \(H, W\)"):
            fuser(np.zeros(shapes[0]), np.zeros(shapes[1]))
    with pytest.raises(InputError, match="2 visible and 1 infrared images"):
        fuser(np.zeros((2, 9, 9, 3)), np.zeros((1, 9, 9)))


@pytest.mark.parametrize("wrong", [-0.01, 1.01, np.nan])
@pytest.mark.parametrize("side", ["visible", "infrared"])
def test_floats_outside_0_to_1_are_refused_on_either_side(weights: Path, wrong: float, side: str) -> None:
    fuser = Fuser.from_pretrained(weights)
    visible, infrared = np.full((8, 8, 3), 0.5, dtype=np.float32), np.full((8, 8), 0.5, dtype=np.float32)
    (visible if side == "visible" else infrared)[3, 4] = wrong
    planes = torch.from_numpy(visible).permute(2, 0, 1), torch.from_numpy(infrared)[None]
    for pair in ((visible, infrared), planes):
        with pytest.raises(InputError, match="floats must lie in 0..1"):
            fuser(*pair)


def test_a_value_that_is_no_number_is_refused(weights: Path) -> None:
    visible = np.zeros((16, 16, 3), dtype=np.float32)
    visible[3, 3, 1] = np.nan
    with pytest.raises(InputError, match=r"0\.\.1"):
        Fuser.from_pretrained(weights)(visible, np.zeros((16, 16), dtype=np.float32))


@pytest.mark.parametrize(
    ("scale", "kind", "expected"),
    [
        (255, torch.uint8, "tensors of uint8"),
        (255, torch.float32, r"0\.\.1, found"),
        (torch.nan, torch.float32, r"0\.\.1"),
    ],
)
def test_tensors_that_are_no_unit_floats_are_refused(
    weights: Path, scale: float, kind: torch.dtype, expected: str
) -> None:
    """As torchvision reads images: bytes, or floats up to 255."""
    fuser = Fuser.from_pretrained(weights)
    visible, infrared = torch.rand(3, 12, 12), torch.rand(1, 12, 12)
    with pytest.raises(InputError, match=expected):
        fuser((visible * scale).to(kind), (infrared * scale).to(kind))
    with pytest.raises(InputError, match="1 visible and 2 infrared"):
        fuser(visible[None], torch.rand(2, 1, 12, 12))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda image: image.to(torch.float8_e4m3fn), "tensors of float8_e4m3fn: use float16"),
        (lambda image: image.to_sparse(), "use dense ones"),
        (lambda image: image.to("meta"), "without data"),
    ],
)
def test_tensors_that_no_network_can_compute_with_are_refused(
    weights: Path, changed: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    fuser = Fuser.from_pretrained(weights)
    with pytest.raises(InputError, match=message):
        fuser(changed(torch.rand(3, 12, 12)), changed(torch.rand(1, 12, 12)))


@pytest.mark.parametrize("tile", ["512", 512.0, True])
def test_a_tile_of_no_whole_number_of_pixels_is_refused(weights: Path, tile: Any) -> None:
    with pytest.raises(InputError, match=f"tile is {tile!r}, expected a whole number of pixels"):
        Fuser.from_pretrained(weights, tile=tile)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_any_precision_come_out_as_they_went_in(weights: Path, kind: torch.dtype) -> None:
    fuser = Fuser.from_pretrained(weights)
    visible, infrared = torch.rand(3, 12, 12).to(kind), torch.rand(1, 12, 12).to(kind)
    fused = fuser(visible, infrared)
    assert fused.dtype == kind
    torch.testing.assert_close(fused, fuser(visible.float(), infrared.float()).to(kind))


@pytest.mark.filterwarnings("error")
def test_tensors_that_are_learned_through_are_fused_without_a_warning(weights: Path) -> None:
    visible, infrared = torch.rand(3, 12, 12, requires_grad=True), torch.rand(1, 12, 12, requires_grad=True)
    fused = Fuser.from_pretrained(weights)(visible, infrared)
    assert not fused.requires_grad


def test_arrays_of_the_other_byte_order_are_fused(weights: Path) -> None:
    fuser = Fuser.from_pretrained(weights)
    generator = np.random.default_rng(0)
    visible, infrared = (generator.integers(0, 65536, size, dtype=np.uint16) for size in ((12, 12, 3), (12, 12)))
    fused = fuser(visible.astype(">u2"), infrared.astype(">u2"))
    np.testing.assert_array_equal(fused.astype(np.uint16), fuser(visible, infrared))


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "RGBA", "1", "LA"])
def test_pil_images_are_fused_as_their_files_are(weights: Path, tmp_path: Path, mode: str) -> None:
    """Of any depth; what comes out is grey, in 16 bits, in colour or transparent as the visible image is."""
    fuser = Fuser.from_pretrained(weights)
    visible = picture(tmp_path / "v.png", (20, 30), "L" if mode == "1" else mode, 1)
    infrared = picture(tmp_path / "i.png", (20, 30), "I;16", 2)
    with Image.open(visible) as first, Image.open(infrared) as second:
        fused = fuser(first.convert(mode), second)
        first.convert(mode).save(tmp_path / "kept.png")
    assert fused.mode == ("L" if mode == "1" else mode)
    fuse_file(fuser, tmp_path / "kept.png", infrared, tmp_path / "f.png", Output(sixteen_bit=mode == "I;16"))
    with Image.open(tmp_path / "f.png") as file:
        assert file.mode == fused.mode
        other = np.asarray(file).astype(int)
    np.testing.assert_allclose(np.asarray(fused).astype(int), other, atol=1)


@pytest.mark.parametrize(("name", "mode"), [("f.png", "RGBA"), ("f.tiff", "RGBA"), ("f.png", "LA"), ("f.tiff", "LA")])
def test_sixteen_bits_keep_the_transparency(weights: Path, tmp_path: Path, name: str, mode: str) -> None:
    """But in a grey TIFF, which Pillow would not read."""
    visible = picture(tmp_path / "v.png", (20, 30), mode, 1)
    infrared = picture(tmp_path / "i.png", (20, 30), "L", 2)
    fuse_file(Fuser.from_pretrained(weights), visible, infrared, tmp_path / name, Output(sixteen_bit=True))
    with Image.open(visible) as image:
        alpha = np.asarray(image)[..., -1]
    with Image.open(tmp_path / name) as image:
        if (name, mode) == ("f.tiff", "LA"):
            assert image.mode == "I;16"
        else:
            np.testing.assert_array_equal(np.asarray(image)[..., -1], alpha)
            assert np.ptp(alpha) > 200


def test_too_little_memory_is_one_sentence_with_advice(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fuser = Fuser.from_pretrained(weights)
    visible = torch.zeros(1, 3, 40, 50), torch.zeros(1, 1, 40, 50)
    for error in (
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
    ):

        def out_of_memory(*given: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(fuser, "network", out_of_memory)
        with pytest.raises(FusionError, match=r"out of memory at 50 x 40 pixels; fuse in tiles: --tile 512$"):
            fuser.fuse(*visible)


def test_a_pil_image_lying_on_its_side_is_set_up_and_floats_are_refused(weights: Path, tmp_path: Path) -> None:
    fuser = Fuser.from_pretrained(weights)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(picture(tmp_path / "v.png", (20, 30), "RGB", 1)) as upright:
        expected = fuser(upright, Image.new("L", (30, 20))).tobytes()
        for name in ("turned.png", "turned.tif"):
            upright.rotate(90, expand=True).save(tmp_path / name, exif=exif)
            with Image.open(tmp_path / name) as turned:
                assert fuser(turned, Image.new("L", (30, 20))).tobytes() == expected
        upright.save(tmp_path / "cut.jpg")
        (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-200])
        with Image.open(tmp_path / "cut.jpg") as cut, pytest.raises(ImageError, match="the visible image: .*cut short"):
            fuser(cut, Image.new("L", (30, 20)))
        with pytest.raises(ImageError, match="the infrared image: floating-point"):
            fuser(upright, Image.new("F", (30, 20)))


def test_a_single_light_keeps_its_colour(weights: Path, tmp_path: Path) -> None:
    """A grey picture in colour, as a camera at night writes it, with one red light of 64 pixels in 76,800."""
    from fusion.inference import fuse_file

    grey = np.full((240, 320, 3), 60, dtype=np.uint8)
    grey[..., 1] += 2  # the noise of a JPEG
    Image.fromarray(np.full((240, 320), 40, dtype=np.uint8)).save(tmp_path / "i.png")
    for light, mode in (((255, 0, 0), "RGB"), ((70, 60, 60), "L")):
        lit = grey.copy()
        lit[100:108, 100:108] = light
        Image.fromarray(lit).save(tmp_path / "v.png")
        fuse_file(Fuser.from_pretrained(weights), tmp_path / "v.png", tmp_path / "i.png", tmp_path / "f.png")
        with Image.open(tmp_path / "f.png") as fused:
            assert fused.mode == mode
            if mode == "RGB":
                red, green, _ = fused.getpixel((104, 104))
                assert red - green > 200
