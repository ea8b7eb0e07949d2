"""Text vectors by CLIP's text tower, through open_clip: the embedder of the paper."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.embedders.base import FittedText
from pipeline.errors import MissingPackage, WeightsError, closest
from pipeline.events import Caption, by_severity, event_sentence, sentence
from pipeline.settings import at_least_one


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """``pretrained`` is a tag that open_clip knows ("openai") or the path of a weights file (safetensors)."""

    model: str = "ViT-B-32"
    pretrained: str = "openai"
    batch: int = 256

    def __post_init__(self) -> None:
        at_least_one(self, "batch")


class ClipEmbedder:
    """Unit vectors of the text tower: bf16 on a GPU, float32 on a CPU."""

    name = "clip"

    def __init__(self, settings: ClipSettings) -> None:
        """Load the model. Raises WeightsError for an unknown model or weights that cannot be had, MissingPackage."""
        import torch
        from safetensors import SafetensorError

        open_clip = _open_clip()

        self.settings = settings
        self.version = str(open_clip.__version__)
        known = open_clip.list_models()
        if settings.model not in known:
            raise WeightsError(f"open_clip has no model {settings.model!r}{closest(settings.model, known)}")
        self._check_weights(open_clip.list_pretrained_tags_by_model(settings.model))
        try:
            # weights_only: a weights file is read as tensors; nothing in it is run
            model = open_clip.create_model(settings.model, pretrained=settings.pretrained, weights_only=True)
        except (RuntimeError, OSError, ValueError, EOFError, UnpicklingError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200] or "the file ends too soon"
            raise WeightsError(
                f"CLIP {settings.model}/{settings.pretrained}: its weights cannot be had ({reason}); give a local "
                "file with --embedder-set pretrained=FILE, or use --embedder hashing, which needs no model"
            ) from error
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = "bf16" if self.device.type == "cuda" else "fp32"
        self.model = model.to(self.device, torch.bfloat16 if self.precision == "bf16" else torch.float32).eval()
        self.tokenizer = open_clip.get_tokenizer(settings.model)
        self.context = int(getattr(self.model, "context_length", 77))
        self.width = int(self._encode(["a"]).shape[1])

    def fingerprint(self) -> dict[str, Any]:
        """Model, weights (by digest), version, precision and width."""
        return {
            "name": self.name,
            "model": self.settings.model,
            "pretrained": Path(self.settings.pretrained).name,
            "weights_digest": self._digest(),
            "engine": f"open_clip {self.version}",
            "precision": self.precision,
            "width": self.width,
        }

    def count(self, text: str) -> int:
        """Tokens of ``text`` in the context, start and end included, by the real tokenizer."""
        return len(self.tokenizer.encode(text)) + 2

    def fit(self, caption: Caption) -> FittedText:
        """The most severe events first; the scene first of all, where all events fit beside it.

        An event whose description does not fit keeps its name; what fits not even so is dropped and counted.
        """
        events = by_severity(caption.events)
        scene = sentence(caption.scene)
        for opening in (scene, ""):
            parts, dropped = self._fill(opening, events)
            if not dropped or not opening:
                break
        text = " ".join(part for part in parts if part) or scene or "nothing is said"
        while self.count(text) > self.context:  # one endless description: shorten it word by word
            text = text.rsplit(" ", 1)[0] if " " in text else text[:-8]
        return FittedText(text=text, tokens=self.count(text), dropped=dropped)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, width) float32 of unit length."""
        step = self.settings.batch
        batches = [self._encode(texts[start : start + step]) for start in range(0, len(texts), step)]
        return np.concatenate(batches) if batches else np.zeros((0, self.width), dtype=np.float32)

    def _fill(self, opening: str, events: Sequence[Any]) -> tuple[list[str], int]:
        parts, dropped = [opening], 0
        for event in events:
            full = event_sentence(event)
            short = sentence(full.split(":", 1)[0].rstrip("."))
            for candidate in (full, short):
                if self.count(" ".join(part for part in (*parts, candidate) if part)) <= self.context:
                    parts.append(candidate)
                    break
            else:
                dropped += 1
        return parts, dropped

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            vectors = self.model.encode_text(self.tokenizer(list(texts)).to(self.device), normalize=False).float()
            vectors = vectors / vectors.norm(dim=-1, keepdim=True)
        array: NDArray[np.float32] = vectors.cpu().numpy()
        return array

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _check_weights(self, tags: Sequence[str]) -> None:
        pretrained = self.settings.pretrained
        path = Path(pretrained)
        if pretrained in tags or path.is_file():
            return
        if path.suffix or "/" in pretrained:
            raise WeightsError(f"{pretrained}: no such CLIP weights file")
        raise WeightsError(
            f"open_clip knows no weights {pretrained!r} of {self.settings.model}{closest(pretrained, tags)}; known: "
            f"{', '.join(tags) or 'none'}, or give a file"
        )


def _open_clip() -> Any:
    """The package, which brings torchvision along. Raises MissingPackage where the two do not load."""
    try:
        import open_clip
    except (ImportError, OSError, RuntimeError) as error:  # torchvision made for another torch: RuntimeError
        reason = " ".join(str(error).split())[:200]
        raise MissingPackage(
            f"--embedder clip: open_clip does not load here ({reason}); often torchvision is not the one made for this "
            "torch: install both anew from one place, or use --embedder hashing, which needs neither"
        ) from error
    return open_clip
