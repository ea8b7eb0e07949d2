"""Embedders by name. Each entry imports its module only when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.embedders.base import Embedder, FittedText
from pipeline.errors import InputError, MissingPackage, closest
from pipeline.settings import build_settings

__all__ = ["EMBEDDERS", "Embedder", "FittedText", "make_embedder"]

Settings = Mapping[str, str]


def _hashing(settings: Settings) -> Embedder:
    from pipeline.embedders.hashing import HashingEmbedder, HashingSettings

    return HashingEmbedder(build_settings(HashingSettings, settings, "--embedder hashing").width)


def _clip(settings: Settings) -> Embedder:
    try:
        import open_clip  # noqa: F401
    except ImportError as error:
        raise MissingPackage(
            "--embedder clip needs open_clip: pip install 'fusioncli[clip]', or use --embedder hashing, "
            "which needs no model"
        ) from error
    from pipeline.embedders.clip import ClipEmbedder, ClipSettings

    return ClipEmbedder(build_settings(ClipSettings, settings, "--embedder clip"))


EMBEDDERS: dict[str, Callable[[Settings], Embedder]] = {"clip": _clip, "hashing": _hashing}


def make_embedder(name: str, settings: Settings) -> Embedder:
    """The embedder ``name`` under ``settings``. Raises InputError for an unknown one, MissingPackage, WeightsError."""
    if name not in EMBEDDERS:
        raise InputError(f"no embedder {name!r}{closest(name, EMBEDDERS)}; there are: {', '.join(EMBEDDERS)}")
    return EMBEDDERS[name](settings)
