"""Stage two: networks, losses, training, inference, metrics and the benchmark.

Importing this package is cheap; the heavy names are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusion.inference import Fuser as Fuser

__all__ = ["Fuser"]


def __getattr__(name: str) -> object:
    if name == "Fuser":
        from fusion.inference import Fuser

        return Fuser
    raise AttributeError(f"module 'fusion' has no attribute {name!r}")
