"""Every network by name: what it is for and how it is built."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

from torch import nn

from fusion.edge import EDGE, EDGE_PRIOR, EDGE_TEACHER, NANO, EdgeConfig, EdgeNetwork
from fusion.network import FusionNetwork, NetworkConfig
from pipeline.errors import WeightsError, closest

Config = NetworkConfig | EdgeConfig
LARGEST = 1024  # of a width or depth read from a file: a network of more would only exhaust memory


@dataclass(frozen=True, kw_only=True)
class NetworkEntry:
    """A named network: its role ("teacher", "student" or "edge") and its configuration."""

    role: str
    config: Config

    def build(self) -> nn.Module:
        """The network with fresh weights."""
        return build_network(self.config)


def _student(width: int, expansion: float = 2.0) -> NetworkConfig:
    return NetworkConfig(width=width, expansion=expansion, refinement=2, text_width=None)


NETWORKS: dict[str, NetworkEntry] = {
    "teacher": NetworkEntry(role="teacher", config=NetworkConfig()),
    "teacher-d16": NetworkEntry(role="teacher", config=NetworkConfig(width=16, expansion=2.0, refinement=2)),
    "teacher-tiny": NetworkEntry(role="teacher", config=NetworkConfig(width=8, expansion=1.0, refinement=1)),
    "student": NetworkEntry(role="student", config=_student(16)),
    "student-d32": NetworkEntry(role="student", config=_student(32)),
    "student-d48": NetworkEntry(role="student", config=_student(48, 2.66)),
    "student-tiny": NetworkEntry(role="student", config=_student(8, 1.0)),
    "teacher-edge": NetworkEntry(role="teacher", config=EDGE_TEACHER),
    "edge": NetworkEntry(role="edge", config=EDGE),
    "edge-prior": NetworkEntry(role="edge", config=EDGE_PRIOR),
    "nano": NetworkEntry(role="edge", config=NANO),
}

# The name a configuration goes by in config.json, and its dataclass.
FAMILIES: dict[str, type[NetworkConfig] | type[EdgeConfig]] = {"fusion": NetworkConfig, "edge": EdgeConfig}


def network_entry(name: str) -> NetworkEntry:
    """The entry called ``name``. Raises WeightsError with the closest match."""
    if name not in NETWORKS:
        raise WeightsError(f"no network called {name!r}{closest(name, NETWORKS)}; `fusioncli nets` lists them")
    return NETWORKS[name]


def build_network(config: Config) -> nn.Module:
    """A network with fresh weights."""
    return FusionNetwork(config) if isinstance(config, NetworkConfig) else EdgeNetwork(config)


def config_as_dict(config: Config) -> dict[str, Any]:
    """``{"family": …, "config": {…}}``, plain values for JSON."""
    family = "fusion" if isinstance(config, NetworkConfig) else "edge"
    return {"family": family, "config": asdict(config)}


def config_from_dict(raw: dict[str, Any]) -> Config:
    """The inverse of ``config_as_dict``. Raises WeightsError for an unknown family or key, another type, out of range."""
    family = raw.get("family")
    if not isinstance(family, str) or family not in FAMILIES:
        raise WeightsError(f"unknown network family {family!r}; expected {' or '.join(FAMILIES)}")
    kind = FAMILIES[family]
    values = raw.get("config")
    if not isinstance(values, dict):
        raise WeightsError("the configuration has no network settings")
    known = get_type_hints(kind)
    for key, value in values.items():
        if key not in known:
            raise WeightsError(f"unknown network setting {key!r}{closest(key, known)}")
        wanted = known[key] if known[key] is not float else int | float
        outside = isinstance(value, int | float) and not 0 <= value <= LARGEST
        if not isinstance(value, wanted) or isinstance(value, bool) or outside:
            name = getattr(known[key], "__name__", str(known[key]))
            raise WeightsError(f"network setting {key}: {value!r}, expected {name}, 0 to {LARGEST}")
    return kind(**values)
