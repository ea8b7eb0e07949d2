"""Captioners by name. Each entry imports its module only when it is made, so that no back end is needed for another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from pipeline.captioners.base import Captioner, CaptionRequest
from pipeline.errors import InputError, MissingPackage, closest
from pipeline.settings import build_settings
from pipeline.tasks import Task

__all__ = ["CAPTIONERS", "CaptionRequest", "Captioner", "check_captioner", "make_captioner"]

Settings = Mapping[str, str]
Kind = tuple[Callable[[Task, Any], Captioner], type[Any]]  # a captioner and its settings, a dataclass


def _vllm() -> Kind:
    from pipeline.captioners.vllm import VllmCaptioner, VllmSettings

    return VllmCaptioner, VllmSettings


def _server() -> Kind:
    from pipeline.captioners.server import ServerCaptioner, ServerSettings

    return ServerCaptioner, ServerSettings


def _transformers() -> Kind:
    from pipeline.captioners.transformers import TransformersCaptioner, TransformersSettings

    return TransformersCaptioner, TransformersSettings


def _measured() -> Kind:
    from pipeline.captioners.measured import MeasuredCaptioner, MeasuredSettings

    return MeasuredCaptioner, MeasuredSettings


def _imported() -> Kind:
    from pipeline.captioners.imported import ImportedCaptioner, ImportSettings

    return ImportedCaptioner, ImportSettings


def _scripted() -> Kind:
    from pipeline.captioners.scripted import ScriptedCaptioner, ScriptedSettings

    return ScriptedCaptioner, ScriptedSettings


@dataclass(frozen=True, kw_only=True)
class BackEnd:
    """What a captioner is, imported when it is asked for, and the package it needs with the extra that installs it."""

    load: Callable[[], Kind]
    package: str | None = None
    extra: str | None = None


CAPTIONERS: dict[str, BackEnd] = {
    "vllm": BackEnd(load=_vllm, package="vllm", extra="vllm"),
    "server": BackEnd(load=_server, package="httpx", extra="server"),
    "transformers": BackEnd(load=_transformers, package="transformers", extra="transformers"),
    "measured": BackEnd(load=_measured),
    "import": BackEnd(load=_imported),
    "scripted": BackEnd(load=_scripted),  # misbehaves on purpose; for tests
}
OFFERED = tuple(name for name in CAPTIONERS if name != "scripted")


def check_captioner(name: str, settings: Settings) -> Callable[[Task], Captioner]:
    """What makes the captioner ``name`` under ``settings``; to refuse early, before any image is read.

    Raises InputError for an unknown name and for settings it does not take, MissingPackage with what to install.
    """
    if name not in CAPTIONERS:
        raise InputError(f"no captioner {name!r}{closest(name, OFFERED)}; there are: {', '.join(OFFERED)}")
    entry = CAPTIONERS[name]
    if entry.package and find_spec(entry.package) is None:
        others = [other for other in OFFERED if other not in (name, "import")]
        raise MissingPackage(
            f"--captioner {name} needs {entry.package}: pip install 'fusioncli[{entry.extra}]'; or use --captioner "
            f"{', '.join(others[:-1])} or {others[-1]} (measured needs no model), or import captions made elsewhere"
        )
    captioner, known = entry.load()
    chosen = build_settings(known, settings, f"--captioner {name}")
    return lambda task: captioner(task, chosen)


def make_captioner(name: str, task: Task, settings: Settings) -> Captioner:
    """The captioner ``name`` under ``settings``. Raises InputError, MissingPackage, WeightsError."""
    return check_captioner(name, settings)(task)
