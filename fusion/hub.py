"""Weights on a model hub: what ``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` do beyond the mixin.

The mixin's own PyTorch variant falls back to pickles where a repository has no safetensors; this one reads nothing else.
No repository's code is run: config.json names a family of networks that this package has.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from fusion.weights import CARD, CONFIG, MODEL, Weights, save_weights
from pipeline.errors import InputError, WeightsError

HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]  # of httpx or httpx2: whichever the Hub's client stands on
NOT_TO_BE_HAD: tuple[type[Exception], ...] = (HTTP_ERROR, HFValidationError, OSError)


@dataclass(frozen=True, kw_only=True)
class Revision:
    """Which copy of a repository to take, and how: the names are those of ``huggingface_hub``."""

    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False
    force_download: bool = False


class HubWeights(ModelHubMixin):
    """Adds ``save_pretrained(folder)`` and ``push_to_hub("owner/name")`` to what holds ``weights``.

    A saved folder is in the Hub's layout: config.json, model.safetensors and the model card as README.md.
    """

    weights: Weights | None

    def save_pretrained(
        self, save_directory: str | Path, *, push_to_hub: bool = False, repo_id: str | None = None, **options: Any
    ) -> str | None:
        """Write the weights into a folder, and with ``push_to_hub`` upload them too; see there for the ``options``.

        The mixin's own way takes an earlier config.json away first; here what was there stays until all is written.
        Raises InputError: an exported network, a file in the folder's place, or a folder in a file's.
        """
        folder = Path(save_directory)
        self._save_pretrained(folder)
        return self.push_to_hub(repo_id or folder.name, **options) if push_to_hub else None

    def _save_pretrained(self, save_directory: Path) -> None:
        weights = self._weights_to_save()
        if save_directory.exists() and not save_directory.is_dir():
            raise InputError(f"{save_directory}: a file where the folder for the weights was expected")
        described = ("format", "family", "config", "sha256")
        extra = {name: value for name, value in weights.config.items() if name not in described}
        card = weights.card or plain_card(weights)
        try:
            save_weights(save_directory, weights.network, card, extra, half=weights.half)
        except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
            raise InputError(f"{save_directory}: not a folder that weights can be written to ({error})") from error

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload to the repository, made if need be; the address of the commit. Options are the mixin's.

        Raises WeightsError: the Hub cannot be reached, refuses, or the name is not one; InputError: an exported network.
        """
        self._weights_to_save()
        try:
            return str(super().push_to_hub(repo_id, **options))
        except NOT_TO_BE_HAD as error:
            raise WeightsError(f"{repo_id}: not pushed to the Hub: {_reason(error)}") from error

    def _weights_to_save(self) -> Weights:
        if self.weights is None:
            raise InputError(
                "an exported network has no weights to save; copy its folder, or save the run it came from"
            )
        return self.weights


def plain_card(weights: Weights) -> str:
    """A model card for weights that came without one: what can be said of them from their configuration."""
    from fusion.cost import count_parameters

    family = weights.config["family"]
    return f"""---
library_name: fusioncli
pipeline_tag: image-to-image
tags: [image-fusion]
---
# An image fusion network of {count_parameters(weights.network):,} parameters

Family `{family}`; its settings are in `{CONFIG}`. What it was trained on and how well it fuses was not written down.

    fusioncli fuse VISIBLE INFRARED --out fused.png --weights THIS_FOLDER
"""


def fetch(name: str, wanted: Revision) -> Path:
    """The local folder of a repository's weights ("owner/name"), downloaded if need be. Raises WeightsError."""
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, MODEL, CARD], **asdict(wanted)))
    except NOT_TO_BE_HAD as error:
        raise WeightsError(f"{name}: no such folder, and not to be had from the Hub: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it to use the network"
    if isinstance(error, HFValidationError):
        return 'not a repository\'s name; expected "owner/name" of letters, digits, "-", "_" and "."'
    if status in (401, 403):
        return (
            f"it answered {status}: no such repository, or no right to it; log in with `hf auth login` or set HF_TOKEN"
        )
    if status is not None:
        return f"it answered {status}: {str(error).splitlines()[0]}"
    if isinstance(error, LocalEntryNotFoundError):
        return "it cannot be reached and nothing of it is in the cache; check the network"
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no connection'}; check the network"
