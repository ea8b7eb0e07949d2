"""Which weights exactly: a Hub id pinned to its commit, or a local folder known by a digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import WeightsError

DEFAULT_MODEL = "Qwen/Qwen2-VL-7B-Instruct"
SAMPLE = 1 << 20  # bytes hashed at each end of a weight file; with its size that tells two checkpoints apart
WEIGHT_SUFFIXES = frozenset({".safetensors", ".gguf"})
IGNORED_SUFFIXES = frozenset({".md", ".lock", ".bin", ".pt", ".pth"})  # notes, and pickles that are never loaded


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A folder to load from and the revision (commit or digest) that goes into the fingerprint."""

    name: str
    folder: Path
    revision: str


def find_checkpoint(model: str, revision: str | None = None) -> Checkpoint:
    """Resolve a local folder or a Hub id to files on this machine.

    A Hub id is fetched if needed (``HF_HUB_OFFLINE=1`` uses the cache alone). Raises WeightsError when it is neither.
    """
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise WeightsError(f"{folder}: no config.json; expected a model folder as saved by transformers")
        return Checkpoint(name=folder.name, folder=folder, revision=folder_digest(folder))
    if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise WeightsError(f"{model}: no such folder, and not a Hub id (owner/name)")
    return _from_hub(model, revision)


def folder_digest(folder: Path) -> str:
    """SHA-256 over every file's name and size, and its bytes (for weights: the first and last MiB)."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix in IGNORED_SUFFIXES or path.name.startswith("."):
            continue
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            if path.suffix in WEIGHT_SUFFIXES and size > 2 * SAMPLE:
                digest.update(file.read(SAMPLE))
                file.seek(-SAMPLE, 2)
            digest.update(file.read())
    return digest.hexdigest()


def _from_hub(model: str, revision: str | None) -> Checkpoint:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = ["*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack"]
        folder = Path(snapshot_download(model, revision=revision, ignore_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsError(
            f"{model}: neither a local folder nor to be had from the Hub ({type(error).__name__}); give the path of a "
            "downloaded model folder, or use --captioner measured, which needs no model"
        ) from error
    return Checkpoint(name=model, folder=folder, revision=folder.name)
