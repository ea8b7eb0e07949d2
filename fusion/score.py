"""Scores of fused images under a named convention, from arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion.devices import device_named
from fusion.metrics import CONVENTIONS, Convention
from fusion.metrics.triples import Sources
from pipeline.errors import InputError, closest

Scores = dict[str, float | None]


def score(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    fused: NDArray[np.uint8],
    convention: str = "standard",
    names: Sequence[str] | None = None,
    device: str = "cpu",
) -> Scores:
    """Metrics of one fused image: name -> value, None where a metric is undefined on these images.

    The images are (H, W) or (H, W, 3), uint8, of one size. ``names`` defaults to the convention's part of EN, VIF,
    Qabf, SSIM, MI, SF, SD, AG, SCD, CC, Nabf, MS-SSIM, PSNR. Raises InputError on unknown names, sizes that differ,
    values out of 0..255 and NaN.
    """
    return score_fused(prepare(first, second, convention, device), fused, convention, names)


def prepare(
    first: NDArray[np.uint8], second: NDArray[np.uint8], convention: str = "standard", device: str = "cpu"
) -> Sources:
    """The sources of a pair, (H, W) or (H, W, 3) uint8, ready for ``score_fused`` with any number of fused images.

    Raises InputError as ``score`` does.
    """
    where = device_named(device)
    planes = as_batch(first, "first source", where), as_batch(second, "second source", where)
    if first.shape[:2] != second.shape[:2]:
        raise InputError(f"the two sources differ in size: {_size(first)} and {_size(second)}")
    return Sources(*planes, convention_named(convention).grey)


def score_fused(
    sources: Sources, fused: NDArray[np.uint8], convention: str = "standard", names: Sequence[str] | None = None
) -> Scores:
    """``score`` for sources made by ``prepare`` under the same convention. Raises InputError as it does, and for another."""
    chosen = convention_named(convention)
    if sources.greying is not chosen.grey:
        raise InputError(f"the sources were prepared under another convention than {convention!r}; give it to both")
    functions = {name: chosen.functions[name] for name in known_names(chosen, names)}
    plane = as_batch(fused, "fused image", sources.first.colour.device)
    if fused.shape[:2] != tuple(sources.first.colour.shape[-2:]):
        height, width = sources.first.colour.shape[-2:]
        raise InputError(f"the fused image is {_size(fused)}, its sources are {width} x {height}")
    triple = sources.with_fused(plane)
    # not inference mode: what the sources remember may be used in an optimisation later
    with one_thread(), torch.no_grad():
        values = {name: float(function(triple)[0]) for name, function in functions.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def convention_named(name: str) -> Convention:
    """The convention of that name; InputError with the closest match otherwise."""
    if name not in CONVENTIONS:
        raise InputError(
            f"no metric convention {name!r}{closest(name, CONVENTIONS)}; there are {', '.join(CONVENTIONS)}"
        )
    return CONVENTIONS[name]


def known_names(convention: Convention, names: Sequence[str] | None) -> tuple[str, ...]:
    """``names``, or the convention's defaults. Raises InputError for a metric that the convention does not know."""
    for name in names or ():
        if name not in convention.functions:
            raise InputError(
                f"convention {convention.name!r} has no metric {name!r}{closest(name, convention.functions)}; "
                f"it has {', '.join(convention.functions)}"
            )
    return tuple(names) if names else convention.default_names


def names_in(text: str | None, convention: str) -> tuple[str, ...] | None:
    """The names in ``EN,VIF,…``; ``usual`` in it stands for the defaults, ``all`` for every metric that can be computed.

    Unchecked (``known_names`` does that); None for None. Raises InputError for a text without a name.
    """
    if text is None:
        return None
    groups = {"usual": convention_named(convention).default_names, "all": tuple(available_names(convention))}
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise InputError(f"--metrics {text!r}: no name in it; for example EN,VIF,Qabf or usual or all")
    return tuple(dict.fromkeys(name for word in words for name in groups.get(word, (word,))))


def available_names(convention: str) -> list[str]:
    """Every metric of a convention that can be computed here: all but BRISQUE where its package is missing."""
    names = convention_named(convention).functions
    return [name for name in names if name != "BRISQUE" or find_spec("brisque") is not None]


_limiting = Lock()
_limited = 0  # scores under way, whose threads all go back to the number that was usual before the first of them
_usual = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread per operation meanwhile: these are too short to share, and waiting for a busy core costs 20 times more.

    PyTorch's number of threads is for the whole process: a thread that begins to compute meanwhile keeps to one.
    """
    global _limited, _usual
    with _limiting:
        _usual = _usual if _limited else torch.get_num_threads()
        _limited += 1
    torch.set_num_threads(1)
    try:
        yield
    finally:
        with _limiting:
            _limited -= 1
            torch.set_num_threads(_usual)


def as_batch(image: NDArray[np.uint8], what: str, device: str | torch.device = "cpu") -> Tensor:
    """(1, 1 or 3, H, W) uint8 of an image (H, W) or (H, W, 3); InputError on other kinds, shapes, values and NaN."""
    if not isinstance(image, np.ndarray):
        raise InputError(f"the {what} is a {type(image).__name__}; a NumPy array is expected")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise InputError(f"the {what} has shape {image.shape}; (H, W) or (H, W, 3) is expected")
    if not image.size:
        raise InputError(f"the {what} has no pixels: its shape is {image.shape}")
    if image.dtype != np.uint8:
        image = _whole(image, what)
    tensor = torch.from_numpy(np.array(image, order="C")).to(device)
    return tensor[None, None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)[None]


def _whole(image: NDArray[np.generic], what: str) -> NDArray[np.uint8]:
    values = image.astype(np.float64)
    if np.isnan(values).any():
        raise InputError(f"the {what} has NaN at {int(np.isnan(values).sum())} of {values.size} values")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255:
        raise InputError(f"the {what} has values from {low:g} to {high:g}; 8-bit values 0..255 are expected")
    if (values != np.round(values)).any():
        raise InputError(
            f"the {what} has fractional values from {low:g} to {high:g}; scores are defined on 8-bit images: scale to "
            "0..255 and round first"
        )
    return values.astype(np.uint8)


def _size(image: NDArray[np.generic]) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
