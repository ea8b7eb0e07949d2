"""How a pair is shown to a vision-language model: both images, labelled, then the task's question."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from pipeline.captioners.base import CaptionRequest
from pipeline.images import Picture

MIN_SIDE = 28  # Qwen2-VL merges 2 x 2 patches of 14 pixels; a smaller side crashes its image processor
Message = dict[str, Any]


def conversation(
    request: CaptionRequest, names: tuple[str, str], question: str, part: Callable[[Image.Image], Message]
) -> list[Message]:
    """One user turn in the OpenAI chat form.

    ``names`` are the modalities ("visible", "infrared"); ``part`` turns an image into the back end's content part.
    """
    content: list[Message] = []
    for position, (name, picture) in enumerate(zip(names, (request.first, request.second), strict=True), start=1):
        content.append({"type": "text", "text": f"Image {position}, {name}:"})
        content.append(part(as_pil(picture)))
    content.append({"type": "text", "text": question})
    return [{"role": "user", "content": content}]


def as_pil(picture: Picture) -> Image.Image:
    """An RGB image of at least MIN_SIDE pixels a side; 16-bit is scaled to 8, thin images are enlarged whole."""
    rgb = np.rint(picture.as_rgb() * 255).astype(np.uint8)
    image = Image.fromarray(rgb)
    scale = MIN_SIDE / min(image.size)
    if scale > 1:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    return image


def data_url(image: Image.Image) -> str:
    """A lossless PNG as a data URL."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
