"""Embedders by name. Each entry imports its module only when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from pipeline.embedders.base import Embedder, FittedText
from pipeline.errors import InputError, MissingPackage, closest
from pipeline.settings import build_settings

__all__ = ["EMBEDDERS", "Embedder", "FittedText", "check_embedder", "make_embedder"]

Settings = Mapping[str, str]
Kind = tuple[Callable[[Any], Embedder], type[Any]]  # an embedder and its settings, a dataclass


def _hashing() -> Kind:
    from pipeline.embedders.hashing import HashingEmbedder, HashingSettings

    return HashingEmbedder, HashingSettings


def _clip() -> Kind:
    from pipeline.embedders.clip import ClipEmbedder, ClipSettings

    return ClipEmbedder, ClipSettings


EMBEDDERS: dict[str, Callable[[], Kind]] = {"clip": _clip, "hashing": _hashing}


def check_embedder(name: str, settings: Settings) -> Callable[[], Embedder]:
    """What makes the embedder ``name`` under ``settings``; to refuse early.

    Raises InputError for an unknown name and for settings it does not take, MissingPackage with what to install.
    """
    if name not in EMBEDDERS:
        raise InputError(f"no embedder {name!r}{closest(name, EMBEDDERS)}; there are: {', '.join(EMBEDDERS)}")
    if name == "clip" and find_spec("open_clip") is None:
        raise MissingPackage(
            "--embedder clip needs open_clip: pip install 'fusioncli[clip]'; or use --embedder hashing (needs no model)"
        )
    embedder, known = EMBEDDERS[name]()
    chosen = build_settings(known, settings, f"--embedder {name}")
    return lambda: embedder(chosen)


def make_embedder(name: str, settings: Settings) -> Embedder:
    """The embedder ``name`` under ``settings``. Raises InputError, MissingPackage, WeightsError."""
    return check_embedder(name, settings)()
