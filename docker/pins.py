"""Constraints for pip on top of an image: what the image brings stays as it is, the rest is as constraints.txt says.

python3 pins.py constraints.txt > pins.txt
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import distributions
from pathlib import Path


def canonical(name: str) -> str:
    """A distribution's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(constraints: str, installed: dict[str, str]) -> list[str]:
    """``name==version`` lines; ``installed`` wins over ``constraints``."""
    wanted = dict(line.split("==") for line in constraints.splitlines() if "==" in line and not line.startswith("#"))
    both = {canonical(name): version.strip() for name, version in wanted.items()} | installed
    return [f"{name}=={version}" for name, version in sorted(both.items())]


if __name__ == "__main__":
    found = {canonical(one.metadata["Name"]): one.version for one in distributions() if one.metadata["Name"]}
    found.pop("fusioncli", None)
    sys.stdout.write("\n".join(pins(Path(sys.argv[1]).read_text(encoding="utf-8"), found)) + "\n")
