"""Fixtures for the whole suite: real data when it is there, the command line as a stranger would run it."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from command_line import REPOSITORY, SHIM, Run

runpy.run_path(str(SHIM / "sitecustomize.py"))  # lets torchvision import beside a CPU build of torch
if find_spec("hypothesis"):  # the environment of the vLLM tests has none
    import hypothesis

    hypothesis.settings.register_profile("shared", deadline=None)  # no test fails because the machine is busy
    hypothesis.settings.load_profile("shared")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests run two at a time on two cores; one thread each keeps them from fighting, and results reproducible."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real pairs: FUSIONCLI_DATA, else ../shared/data. Skips the test when it is absent."""
    root = Path(os.environ.get("FUSIONCLI_DATA", REPOSITORY.parent / "shared" / "data")).resolve()
    if not (root / "roadscene").is_dir():
        pytest.skip(f"no real pairs at {root}: set FUSIONCLI_DATA to run this test")
    return root


@pytest.fixture
def fusioncli(tmp_path: Path) -> Run:
    """Run the command line in a process of its own, in ``tmp_path`` (cwd), without expecting success."""

    def run(*arguments: str | Path, timeout: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cli", *map(str, arguments)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{SHIM}",
                "OMP_NUM_THREADS": "1",
                "NO_COLOR": "1",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
