"""Settings of a back end: a frozen dataclass, filled from ``key=value`` texts of the command line."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pipeline.errors import InputError, closest

S = TypeVar("S")
OPTIONS = {"urls": "an endpoint: --url URL", "folder": "a folder: --from DIR"}  # settings with an option of their own
WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def split_settings(pairs: Iterable[str], option: str = "--set") -> dict[str, str]:
    """``["dtype=bfloat16"]`` to ``{"dtype": "bfloat16"}``. Raises InputError for a text without "="."""
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{option} {pair!r}: expected key=value")
        settings[key.strip()] = value.strip()
    return settings


def build_settings(kind: type[S], settings: Mapping[str, str], where: str) -> S:
    """An instance of the dataclass ``kind``; tuples are comma-separated, "none" is None where that is allowed.

    Raises InputError naming an unknown key with the closest one, a missing key, or a value of a wrong type.
    """
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key in settings:
        if key not in known:
            listing = ", ".join(known) or "none"
            raise InputError(f"{where}: unknown setting {key!r}{closest(key, known)}; it takes: {listing}")
    for name, field in known.items():
        if name not in settings and field.default is MISSING and field.default_factory is MISSING:
            raise InputError(f"{where} needs {OPTIONS.get(name, f'{name}: --set {name}=…')}")
    return kind(**{key: _value(hints[key], text, f"{where}: {key}") for key, text in settings.items()})


def at_least_one(settings: object, *names: str) -> None:
    """Raise InputError for a number of these settings that is below 1."""
    for name in names:
        if getattr(settings, name) < 1:
            raise InputError(f"{name}={getattr(settings, name)}: at least 1")


def _value(hint: Any, text: str, where: str) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        options = get_args(hint)
        if type(None) in options and text.lower() in ("none", "null", ""):
            return None
        return _value(next(option for option in options if option is not type(None)), text, where)
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], part.strip(), where) for part in text.split(",") if part.strip())
    if hint is Path:
        return Path(text)
    if hint is bool:
        if text.lower() not in WORDS:
            raise InputError(f"{where}={text!r}: expected true or false")
        return WORDS[text.lower()]
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError as error:
            raise InputError(f"{where}={text!r}: expected {'a whole number' if hint is int else 'a number'}") from error
    return text
