"""``fusioncli fuse`` on files and folders, and the Fuser class, with a network whose answer is known."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import Run
from fusion import Fuser
from fusion.catalog import NETWORKS
from fusion.weights import save_weights
from pipeline.errors import ImageError, InputError


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nano network with its fresh weights: a soft maximum of both lumas, which keeps the visible chroma."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "nano"
    save_weights(folder, NETWORKS["nano"].build(), "# fresh\n")
    return folder


def soft_maximum(visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """What the fresh network computes, written out: Y + (1 - sigmoid(6 (Y - I))) (I - Y), added to every channel."""
    luma = visible @ np.array([0.299, 0.587, 0.114])
    share = 1 - 1 / (1 + np.exp(-6 * (luma - infrared)))
    return (visible + (share * (infrared - luma))[..., None]).clip(0, 1)


def picture(path: Path, size: tuple[int, int], mode: str, seed: int) -> Path:
    shape = size if mode in ("L", "I;16") else (*size, len(mode))
    top, kind = (65535, np.uint16) if mode == "I;16" else (255, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, top + 1, shape).astype(kind)).save(path)
    return path


def test_the_fused_file_is_what_the_network_computes_at_the_size_that_went_in(
    fusioncli: Run, weights: Path, tmp_path: Path
) -> None:
    visible = picture(tmp_path / "visible.png", (37, 53), "RGB", 1)
    infrared = picture(tmp_path / "infrared.png", (37, 53), "L", 2)
    done = fusioncli("fuse", visible, infrared, "--out", "fused.png", "--weights", weights)
    assert done.returncode == 0, done.stderr
    fused = np.asarray(Image.open(tmp_path / "fused.png"))
    expected = soft_maximum(np.asarray(Image.open(visible)) / 255, np.asarray(Image.open(infrared)) / 255)
    assert fused.shape == (37, 53, 3)
    assert np.abs(fused - expected * 255).max() <= 0.51


def test_sixteen_bit_grey_goes_in_and_comes_out(weights: Path, tmp_path: Path) -> None:
    from fusion.inference import Output, fuse_file

    visible = picture(tmp_path / "v.png", (24, 24), "I;16", 1)
    infrared = picture(tmp_path / "i.tiff", (24, 24), "I;16", 2)
    fuse_file(Fuser.from_pretrained(weights), visible, infrared, tmp_path / "f.png", Output(sixteen_bit=True))
    fused = np.asarray(Image.open(tmp_path / "f.png"))
    first, second = (np.asarray(Image.open(path)) / 65535 for path in (visible, infrared))
    expected = soft_maximum(np.repeat(first[..., None], 3, 2), second)[..., 0]
    assert fused.dtype == np.uint16 and np.abs(fused / 65535 - expected).max() < 1e-4


def test_transparency_and_orientation_survive(weights: Path, tmp_path: Path) -> None:
    from fusion.inference import fuse_file

    visible = picture(tmp_path / "v.png", (20, 30), "RGBA", 1)
    infrared = picture(tmp_path / "i.png", (20, 30), "L", 2)
    fuse_file(Fuser.from_pretrained(weights), visible, infrared, tmp_path / "f.png")
    fused = Image.open(tmp_path / "f.png")
    assert fused.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(fused)[..., 3], np.asarray(Image.open(visible))[..., 3])

    upright = Image.open(infrared)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    fuse_file(Fuser.from_pretrained(weights), visible, tmp_path / "turned.png", tmp_path / "g.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "g.png")), np.asarray(fused))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
def test_transparency_is_kept_in_every_format_that_can_hold_it(weights: Path, tmp_path: Path, suffix: str) -> None:
    from fusion.inference import fuse_file

    visible = picture(tmp_path / "v.png", (20, 30), "RGBA", 1)
    infrared = picture(tmp_path / "i.png", (20, 30), "L", 2)
    fuse_file(Fuser.from_pretrained(weights), visible, infrared, tmp_path / f"f{suffix}")
    with Image.open(tmp_path / f"f{suffix}") as fused, Image.open(visible) as seen:
        assert fused.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(fused)[..., 3], np.asarray(seen)[..., 3])


def test_a_transform_of_an_earlier_run_goes_where_nothing_was_moved_now(weights: Path, tmp_path: Path) -> None:
    from fusion.inference import fuse_file

    visible = picture(tmp_path / "v.png", (16, 16), "RGB", 1)
    infrared = picture(tmp_path / "i.png", (16, 16), "L", 2)
    (tmp_path / "f.transform.json").write_text("{}")
    fuse_file(Fuser.from_pretrained(weights), visible, infrared, tmp_path / "f.png")
    assert (tmp_path / "f.png").exists() and not (tmp_path / "f.transform.json").exists()


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


def test_a_grey_visible_gives_a_grey_result(weights: Path, tmp_path: Path) -> None:
    from fusion.inference import fuse_file

    paths = [picture(tmp_path / f"{name}.png", (16, 16), "L", seed) for seed, name in enumerate("vi")]
    fuse_file(Fuser.from_pretrained(weights), *paths, tmp_path / "f.png")
    assert Image.open(tmp_path / "f.png").mode == "L"


def test_folders_are_matched_by_stem_and_a_second_run_keeps_what_is_proven(
    fusioncli: Run, weights: Path, tmp_path: Path
) -> None:
    for index, stem in enumerate(("a", "b é 夜", "c.d")):
        picture(tmp_path / "vi" / f"{stem}.webp", (16, 24), "RGB", index)
        picture(tmp_path / "ir" / f"{stem}.png", (16, 24), "L", 10 + index)
    command = ("fuse", "vi", "ir", "--out", "out", "--weights", weights)
    assert fusioncli(*command).returncode == 0
    outputs = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert outputs == ["a.png", "b é 夜.png", "c.d.png"]
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    (tmp_path / "out" / "a.png").write_bytes(b"somebody touched it")
    assert fusioncli(*command).returncode == 0
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    assert before["c.d.png"] == after["c.d.png"]
    assert np.asarray(Image.open(tmp_path / "out" / "a.png")).shape == (16, 24, 3)


def test_a_pair_that_fails_is_named_and_the_others_are_made(fusioncli: Run, weights: Path, tmp_path: Path) -> None:
    for index, stem in enumerate("abc"):
        picture(tmp_path / "vi" / f"{stem}.png", (16, 24), "RGB", index)
        picture(tmp_path / "ir" / f"{stem}.png", (16, 24), "L", 10 + index)
    broken = tmp_path / "vi" / "b.png"
    broken.write_bytes(broken.read_bytes()[:60])
    done = fusioncli("fuse", "vi", "ir", "--out", "out", "--weights", weights)
    assert done.returncode == 3
    assert "b.png" in done.stderr and "1 of 3" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png", "fused.csv"]
    with (tmp_path / "out" / "fused.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok", "failed", "ok"]


def test_every_roadscene_pair_keeps_its_awkward_size(weights: Path, data_root: Path, tmp_path: Path) -> None:
    from fusion.folders import fuse_folders

    fuser = Fuser.from_pretrained(weights)
    visible = data_root / "roadscene" / "vi"
    entries = fuse_folders(fuser, visible, data_root / "roadscene" / "ir", tmp_path / "out")
    assert len(entries) == 221
    for path in visible.iterdir():
        assert Image.open(tmp_path / "out" / f"{path.stem}.png").size == Image.open(path).size


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
    fuser = Fuser.from_pretrained(weights)
    generator = np.random.default_rng(0)
    pairs = [
        (generator.random((40, 48, 3), dtype=np.float32), generator.random((40, 48), dtype=np.float32))
        for _ in range(12)
    ]
    alone = [fuser(*pair) for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: fuser(*pair), pairs))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


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


@pytest.mark.parametrize("tile", [-5, 0, 100])
def test_a_tile_that_cannot_overlap_is_refused_before_anything_is_read(
    fusioncli: Run, weights: Path, tmp_path: Path, tile: int
) -> None:
    for name in ("v", "i"):
        (tmp_path / name).mkdir()
        picture(tmp_path / name / "a.png", (20, 30), "L", 1)
    done = fusioncli("fuse", "v", "i", "--out", "o", "--weights", str(weights), "--tile", str(tile))
    assert done.returncode == 2 and not (tmp_path / "o").exists()
    assert done.stderr.count("\n") == 1 and f"--tile {tile}: tiles share" in done.stderr


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "1", "LA"])
def test_pil_images_are_fused_as_their_files_are(weights: Path, tmp_path: Path, mode: str) -> None:
    """Of any depth; what comes out is grey, in 16 bits or in colour as the visible image is."""
    from fusion.inference import Output, fuse_file

    fuser = Fuser.from_pretrained(weights)
    visible = picture(tmp_path / "v.png", (20, 30), {"1": "L", "LA": "LA"}.get(mode, mode), 1)
    infrared = picture(tmp_path / "i.png", (20, 30), "I;16", 2)
    with Image.open(visible) as first, Image.open(infrared) as second:
        fused = fuser(first.convert(mode), second)
        first.convert(mode).save(tmp_path / "kept.png")
    assert fused.mode == {"1": "L", "LA": "L"}.get(mode, mode)
    fuse_file(fuser, tmp_path / "kept.png", infrared, tmp_path / "f.png", Output(sixteen_bit=mode == "I;16"))
    with Image.open(tmp_path / "f.png") as file:
        other = np.asarray(file.convert(fused.mode)).astype(int)
    np.testing.assert_allclose(np.asarray(fused).astype(int), other, atol=1)


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


def test_a_value_that_is_no_number_is_refused(weights: Path) -> None:
    visible = np.zeros((16, 16, 3), dtype=np.float32)
    visible[3, 3, 1] = np.nan
    with pytest.raises(InputError, match=r"0\.\.1"):
        Fuser.from_pretrained(weights)(visible, np.zeros((16, 16), dtype=np.float32))
