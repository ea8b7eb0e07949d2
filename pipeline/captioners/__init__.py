"""Captioners by name. Each entry imports its module only when it is made, so that no back end is needed for another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from pipeline.captioners.base import Captioner, CaptionRequest
from pipeline.errors import InputError, MissingPackage, closest
from pipeline.settings import build_settings
from pipeline.tasks import Task

__all__ = ["CAPTIONERS", "CaptionRequest", "Captioner", "check_captioner", "make_captioner"]

Settings = Mapping[str, str]


def _vllm(task: Task, settings: Settings) -> Captioner:
    from pipeline.captioners.vllm import VllmCaptioner, VllmSettings

    return VllmCaptioner(task, build_settings(VllmSettings, settings, "--captioner vllm"))


def _server(task: Task, settings: Settings) -> Captioner:
    from pipeline.captioners.server import ServerCaptioner, ServerSettings

    return ServerCaptioner(task, build_settings(ServerSettings, settings, "--captioner server"))


def _transformers(task: Task, settings: Settings) -> Captioner:
    from pipeline.captioners.transformers import TransformersCaptioner, TransformersSettings

    return TransformersCaptioner(task, build_settings(TransformersSettings, settings, "--captioner transformers"))


def _measured(task: Task, settings: Settings) -> Captioner:
    from pipeline.captioners.measured import MeasuredCaptioner, MeasuredSettings

    return MeasuredCaptioner(task, build_settings(MeasuredSettings, settings, "--captioner measured"))


def _imported(task: Task, settings: Settings) -> Captioner:
    from pipeline.captioners.imported import ImportedCaptioner, ImportSettings

    return ImportedCaptioner(task, build_settings(ImportSettings, settings, "--captioner import"))


def _scripted(task: Task, settings: Settings) -> Captioner:
    from pipeline.captioners.scripted import ScriptedCaptioner, ScriptedSettings

    return ScriptedCaptioner(task, build_settings(ScriptedSettings, settings, "--captioner scripted"))


@dataclass(frozen=True, kw_only=True)
class BackEnd:
    """How a captioner is made, and the package it needs with the extra that installs it."""

    make: Callable[[Task, Settings], Captioner]
    package: str | None = None
    extra: str | None = None


CAPTIONERS: dict[str, BackEnd] = {
    "vllm": BackEnd(make=_vllm, package="vllm", extra="vllm"),
    "server": BackEnd(make=_server, package="httpx", extra="server"),
    "transformers": BackEnd(make=_transformers, package="transformers", extra="transformers"),
    "measured": BackEnd(make=_measured),
    "import": BackEnd(make=_imported),
    "scripted": BackEnd(make=_scripted),  # misbehaves on purpose; for tests
}
OFFERED = tuple(name for name in CAPTIONERS if name != "scripted")


def check_captioner(name: str) -> None:
    """Refuse early, before any file is read. Raises InputError for an unknown name, MissingPackage with what to install."""
    if name not in CAPTIONERS:
        raise InputError(f"no captioner {name!r}{closest(name, OFFERED)}; there are: {', '.join(OFFERED)}")
    entry = CAPTIONERS[name]
    if entry.package and find_spec(entry.package) is None:
        others = [other for other in OFFERED if other not in (name, "import")]
        raise MissingPackage(
            f"--captioner {name} needs {entry.package}: pip install 'fusioncli[{entry.extra}]'; or use --captioner "
            f"{', '.join(others[:-1])} or {others[-1]} (measured needs no model), or import captions made elsewhere"
        )


def make_captioner(name: str, task: Task, settings: Settings) -> Captioner:
    """The captioner ``name`` under ``settings``. Raises InputError, MissingPackage, WeightsError."""
    check_captioner(name)
    return CAPTIONERS[name].make(task, settings)
