"""Trained weights on disk, in the Hub's layout: config.json, model.safetensors, README.md. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fusion.catalog import Config, build_network, config_as_dict, config_from_dict
from pipeline.atomic import encoded, write_together
from pipeline.errors import WeightsError, closest

if TYPE_CHECKING:
    from fusion.hub import Revision

FORMAT = 1
CONFIG, MODEL, CARD = "config.json", "model.safetensors", "README.md"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A loaded network (eval mode, float32) with the whole of its config.json, the SHA-256 of its tensors and its card.

    ``half``: whether its file holds fp16.
    """

    name: str
    network: nn.Module
    config: dict[str, Any]
    sha256: str
    card: str = ""
    half: bool = False


def save_weights(
    folder: Path,
    network: nn.Module,
    card: str,
    extra: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
    half: bool = False,
) -> None:
    """Write a network built by the catalogue. ``tensors`` replace its own (an average, say); ``half`` stores fp16.

    All is written before anything that was there is replaced. config.json comes last: a folder without it is not a set
    of weights.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in (tensors or network.state_dict()).items()}
    if half:
        state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    content = save(state)
    described = config_as_dict(network.config)  # type: ignore[arg-type]
    config = {"format": FORMAT, **described, "sha256": hashlib.sha256(content).hexdigest(), **(extra or {})}
    settings = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    write_together({folder / MODEL: content, folder / CARD: encoded(card), folder / CONFIG: encoded(settings)})


def recipe_of(weights: Weights) -> dict[str, Any]:
    """The recipe that weights were trained by, as their run wrote it down; empty where no run made them."""
    training = weights.config.get("training")
    recipe = training.get("recipe") if isinstance(training, dict) else None
    return recipe if isinstance(recipe, dict) else {}


def load_weights(source: str | Path, wanted: Revision | None = None) -> Weights:
    """Load a run or weights folder, a shipped name, or a Hub id ("owner/name"), there in the revision ``wanted``.

    Raises WeightsError: nothing there, not a checkpoint, another format, a wrong digest, tensors that do not
    fit or are not finite.
    """
    folder = find_weights(source, wanted)
    config = read_config(folder)
    path = folder / MODEL
    if not path.is_file():
        raise WeightsError(f"{path}: missing; a weights folder holds {CONFIG} and {MODEL}")
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if config.get("sha256") != sha256:
        raise WeightsError(f"{path}: its SHA-256 is {sha256[:12]}…, {CONFIG} says {str(config.get('sha256'))[:12]}…")
    tensors = _tensors(content, path)
    network = _network(config_from_dict(config), tensors, path)
    half = any(value.dtype == torch.float16 for value in tensors.values())
    card = (folder / CARD).read_text(encoding="utf-8", errors="replace") if (folder / CARD).is_file() else ""
    return Weights(name=str(source), network=network.eval(), config=config, sha256=sha256, card=card, half=half)


def find_weights(source: str | Path, wanted: Revision | None = None) -> Path:
    """The folder behind a path, a shipped name or a Hub id. Raises WeightsError."""
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists():
        raise WeightsError(f"{path}: a file where a weights folder was expected; give the folder that holds {CONFIG}")
    name = str(source)
    if name in shipped_names():
        return Path(str(resources.files("fusion") / "weights" / name))
    if is_hub_id(name):
        from fusion.hub import Revision, fetch

        return fetch(name, wanted or Revision())
    raise WeightsError(
        f"no weights at {name!r}{closest(name, shipped_names())}: not a folder, and not a shipped name "
        f"({', '.join(shipped_names()) or 'none are shipped'})"
    )


def is_hub_id(name: str) -> bool:
    """Whether this names weights on the Hub, owner/name, and no place on this machine."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).parent.exists()


def shipped_names() -> list[str]:
    """The weights inside the package, sorted."""
    folder = Path(str(resources.files("fusion"))) / "weights"
    return sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a weights folder. Raises WeightsError when there is none or it is not ours."""
    path = folder / CONFIG
    if not path.is_file() and (folder / "export.json").is_file():
        raise WeightsError(
            f"{folder}: a network exported for another engine; give --engine onnx, openvino or torchscript"
        )
    if not path.is_file():
        raise WeightsError(f"{folder}: no {CONFIG}; not a folder of weights made by this program")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: not JSON ({error})") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else None
        raise WeightsError(f"{path}: weights format {found!r}; this version reads {FORMAT}")
    return config


def _tensors(content: bytes, path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: dict[str, Tensor] = load(content)
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error})") from error
    return tensors


def _network(wanted: Config, tensors: dict[str, Tensor], path: Path) -> nn.Module:
    """The network of these tensors, which are looked at before any memory is taken for it."""
    with torch.device("meta"):
        _check_tensors(tensors, build_network(wanted).state_dict(), path)
    network = build_network(wanted)
    network.load_state_dict({name: value.to(torch.float32) for name, value in tensors.items()})
    return network


def _check_tensors(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Raises WeightsError for tensors of other names or shapes, and for numbers that are not finite."""
    missing, unknown = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or unknown:
        raise WeightsError(f"{path}: tensors do not fit the network: missing {missing[:3]}, unknown {unknown[:3]}")
    for name, expected in wanted.items():
        value = tensors[name]
        if value.shape != expected.shape:
            raise WeightsError(f"{path}: {name} is {tuple(value.shape)}, expected {tuple(expected.shape)}")
        if not torch.isfinite(value).all():
            raise WeightsError(
                f"{path}: {name} holds numbers that are not finite; its training went wrong, or it is damaged"
            )
