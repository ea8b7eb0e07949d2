"""Embedders by name. Each entry imports its module only when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec

from pipeline.embedders.base import Embedder, FittedText
from pipeline.errors import InputError, MissingPackage, closest
from pipeline.settings import build_settings

__all__ = ["EMBEDDERS", "Embedder", "FittedText", "check_embedder", "make_embedder"]

Settings = Mapping[str, str]


def _hashing(settings: Settings) -> Embedder:
    from pipeline.embedders.hashing import HashingEmbedder, HashingSettings

    return HashingEmbedder(build_settings(HashingSettings, settings, "--embedder hashing").width)


def _clip(settings: Settings) -> Embedder:
    from pipeline.embedders.clip import ClipEmbedder, ClipSettings

    return ClipEmbedder(build_settings(ClipSettings, settings, "--embedder clip"))


EMBEDDERS: dict[str, Callable[[Settings], Embedder]] = {"clip": _clip, "hashing": _hashing}


def check_embedder(name: str) -> None:
    """Refuse early. Raises InputError for an unknown name, MissingPackage with what to install."""
    if name not in EMBEDDERS:
        raise InputError(f"no embedder {name!r}{closest(name, EMBEDDERS)}; there are: {', '.join(EMBEDDERS)}")
    if name == "clip" and find_spec("open_clip") is None:
        raise MissingPackage(
            "--embedder clip needs open_clip: pip install 'fusioncli[clip]'; or use --embedder hashing (needs no model)"
        )


def make_embedder(name: str, settings: Settings) -> Embedder:
    """The embedder ``name`` under ``settings``. Raises InputError, MissingPackage, WeightsError."""
    check_embedder(name)
    return EMBEDDERS[name](settings)
