"""Numbers and lists in sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence

SHOWN = 5  # of many problems
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and line ends


def counted(number: int, what: str) -> str:
    """``1 pair`` or ``1,200 pairs``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def listed(problems: Sequence[str], head: str = "") -> str:
    """``3 problems: a; b; c``, the first few of them; another ``head`` says what holds for all."""
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return f"{head or counted(len(problems), 'problem')}: {'; '.join(problems[:SHOWN])}{more}"


def printable(text: str) -> str:
    """``text`` without control characters: a terminal would obey those of a file's name or of a model's answer."""
    return CONTROL.sub("", text)
