"""Where to compute, by its name."""

from __future__ import annotations

import torch

from pipeline.errors import InputError


def device_named(name: str | None) -> torch.device:
    """The device called ``name``, without one the GPU if there is one. Raises InputError for what is not here."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name).cpu()
        return torch.device(name)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = str(error).splitlines()[0].split(" This could be because ")[0]  # and then every backend of PyTorch's
        if "at start of device string" in reason:  # PyTorch lists twenty, of which no machine has more than three
            reason = "there are cpu, cuda, cuda:1, mps, xpu and others of PyTorch's"
        raise InputError(f"--device {name}: not a device that this machine can compute on ({reason})") from error


def lacks_memory(error: BaseException) -> bool:
    """Whether it says that memory is out: on a GPU, in NumPy, or, as a plain RuntimeError, of PyTorch on a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
