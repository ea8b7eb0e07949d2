"""Numbers and lists in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

SHOWN = 5  # of many problems or paths
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and line ends


def counted(number: int, what: str) -> str:
    """``1 pair`` or ``1,200 pairs``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def listed(problems: Sequence[str], head: str = "") -> str:
    """``3 problems: a; b; c``, the first few of them; another ``head`` says what holds for all."""
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return f"{head or counted(len(problems), 'problem')}: {'; '.join(problems[:SHOWN])}{more}"


def shown(items: Iterable[object]) -> str:
    """The first few items and how many more there are."""
    listed = [str(item) for item in items]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def printable(text: str) -> str:
    """``text`` without control characters: a terminal would obey those of a file's name or of a model's answer."""
    return CONTROL.sub("", text)
