"""Telling two fingerprints apart: the first field that differs, with both values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHOWN = 160  # characters of a fingerprint value that a message shows


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """``field was 'x', now 'y'`` for the first field that differs, or None. Long values are cut around the change."""
    old, new = _flat(before), _flat(now)
    for name in dict.fromkeys([*new, *old]):
        was, is_now = old.get(name), new.get(name)
        if was != is_now:
            return f"{name} {_excerpt(was, is_now)}, now {_excerpt(is_now, was)}"
    return None


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, entry in value.items():
        flat |= _flat(entry, f"{prefix}{key}.") if isinstance(entry, Mapping) else {f"{prefix}{key}": entry}
    return flat


def _excerpt(value: Any, other: Any) -> str:
    text, beside = str(value), str(other)
    if len(text) <= SHOWN or not isinstance(value, str):
        return repr(value)
    start = next((i for i, (a, b) in enumerate(zip(text, beside, strict=False)) if a != b), min(len(text), len(beside)))
    begin = max(0, start - SHOWN // 4)
    return repr(("…" if begin else "") + text[begin : begin + SHOWN] + "…")
