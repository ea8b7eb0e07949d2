"""Lets torchvision import beside a CPU build of torch, whose extension library cannot load there.

The extension registers two operators that torchvision's Python code refers to while it is imported. Where the
library loads, this does nothing. Put this folder on PYTHONPATH and child processes get it too.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType

KEEP: list[object] = []  # an operator library lives as long as its Python object


def register_missing_operators(package: Path) -> None:
    """Declare ``torchvision::nms`` and ``qnms`` without an implementation, unless the real library loads."""
    import torch

    try:
        torch.ops.load_library(str(package / "_C.so"))
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        KEEP.append(library)


class TorchvisionLoader(importlib.abc.Loader):
    """Runs the registration just before torchvision's own ``__init__``."""

    def __init__(self, inner: importlib.abc.Loader) -> None:
        self.inner = inner

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        register_missing_operators(Path(str(module.__file__)).parent)
        self.inner.exec_module(module)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


class TorchvisionFinder(importlib.abc.MetaPathFinder):
    """Wraps the loader of the top-level package and of nothing else."""

    def find_spec(
        self, name: str, path: object = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "torchvision":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = TorchvisionLoader(spec.loader)  # type: ignore[arg-type]
        return spec


if not any(type(finder).__name__ == "TorchvisionFinder" for finder in sys.meta_path):
    sys.meta_path.insert(0, TorchvisionFinder())
