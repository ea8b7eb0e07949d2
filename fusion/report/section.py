"""A part of the page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: ``anchor`` for its link, ``title`` as shown, ``html`` ready to insert, ``label`` in the links
    at the top where the title is too long for them."""

    anchor: str
    title: str
    html: str
    label: str = ""
