"""The package as a whole: what it imports, how fast its help is, and that the wheel works elsewhere."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import REPOSITORY, Run

LARGE_MODEL_PACKAGES = ("transformers", "open_clip", "vllm", "torchvision")


def commands(group: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every leaf command of the command line with its words."""
    for name, command in getattr(group, "commands", {}).items():
        if getattr(command, "commands", None):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def every_command() -> list[tuple[tuple[str, ...], object]]:
    import typer

    import cli

    return list(commands(typer.main.get_command(cli.app)))


def imported_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_fusion_imports_no_large_model_package() -> None:
    assert not imported_after("import fusion").intersection(LARGE_MODEL_PACKAGES)


def test_no_module_of_stage_two_imports_a_large_model_package() -> None:
    modules = [
        ".".join(path.with_suffix("").relative_to(REPOSITORY).parts).removesuffix(".__init__")
        for path in sorted((REPOSITORY / "fusion").rglob("*.py"))
    ]
    loaded = imported_after("\n".join(f"import {module}" for module in modules))
    assert not loaded.intersection(LARGE_MODEL_PACKAGES)


def test_help_takes_less_than_a_third_of_a_second_of_cpu(fusioncli: Run) -> None:
    def cpu() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    times = []
    for _ in range(3):
        before = cpu()
        assert fusioncli("--help").returncode == 0
        times.append(cpu() - before)
    assert min(times) < 0.3


@pytest.mark.parametrize(
    ("words", "command"), every_command(), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_has_help_with_an_example(words: tuple[str, ...], command: object) -> None:
    text = str(getattr(command, "help", ""))
    assert f"fusioncli {' '.join(words)}" in text.split("Example", 1)[-1], f"no example in the help of {words}"
    assert len(text.split("Example", 1)[0].strip()) > 20


def test_an_unknown_command_is_wrong_usage(fusioncli: Run) -> None:
    done = fusioncli("fuze")
    assert done.returncode == 2
    assert "fuze" in done.stderr


def test_doctor_names_what_is_missing_and_how_to_get_it(fusioncli: Run, tmp_path: Path) -> None:
    done = fusioncli("doctor", "--json", "-", "--root", tmp_path / "nowhere")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert findings["Python"]["ok"]
    assert not findings["Data root"]["ok"]
    assert "--root" in findings["Data root"]["advice"]
    assert not findings["vllm"]["ok"] and "fusioncli[vllm]" in findings["vllm"]["advice"]
    assert findings["demo"]["ok"] is all(importlib.util.find_spec(name) for name in ("starlette", "uvicorn"))
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras.keys() - findings.keys() == {"dev"}


@pytest.mark.slow  # builds both archives and makes an environment
def test_the_wheel_works_from_another_folder_with_its_manifests(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True)
    assert list(tmp_path.glob("*.tar.gz"))
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import cli, pipeline; print(pipeline.__file__); cli.main()", "data", "list"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stdout
    assert "roadscene" in done.stdout
