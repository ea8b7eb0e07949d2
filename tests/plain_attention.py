"""The two attentions of the paper written straightforwardly: what the fast ones must equal."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fusion.attention import MARGIN, REACH, WINDOW, ChannelAttention, SpatialAttention


def plain_spatial_attention(module: SpatialAttention, x: Tensor) -> Tensor:
    """As the text describes it: windows unfolded, logits and positions written out, one head and window at a time."""
    n, _, h, w = x.shape
    e = module.head_width
    q, k, v = module.to_qkv(x).chunk(3, dim=1)
    k, v = (functional.pad(part, (MARGIN,) * 4) for part in (k, v))
    out = torch.zeros(n, module.heads * e, h, w)
    for sample in range(n):
        for head in range(module.heads):
            part = slice(head * e, (head + 1) * e)
            for top in range(0, h, WINDOW):
                for left in range(0, w, WINDOW):
                    query = q[sample, part, top : top + WINDOW, left : left + WINDOW] * e**-0.5
                    keys = k[sample, part, top : top + REACH, left : left + REACH]
                    values = v[sample, part, top : top + REACH, left : left + REACH]
                    logits = torch.einsum("eij,ekl->ijkl", query, keys)
                    for i in range(WINDOW):
                        for row in range(REACH):
                            vector = module.relative_height[row - i + REACH - 1 - MARGIN]
                            logits[i, :, row, :] += torch.einsum("ej,e->j", query[:, i], vector)[:, None]
                    for j in range(WINDOW):
                        for column in range(REACH):
                            vector = module.relative_width[column - j + REACH - 1 - MARGIN]
                            logits[:, j, :, column] += torch.einsum("ei,e->i", query[:, :, j], vector)[:, None]
                    weights = logits.flatten(2).softmax(-1).unflatten(2, (REACH, REACH))
                    out[sample, part, top : top + WINDOW, left : left + WINDOW] = torch.einsum(
                        "ijkl,ekl->eij", weights, values
                    )
    return module.out(out)


def plain_channel_attention(module: ChannelAttention, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    q, k, v = module.depthwise(module.to_qkv(x)).chunk(3, dim=1)
    q, k, v = (part.reshape(n, module.heads, c // module.heads, h * w) for part in (q, k, v))
    q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
    weights = (torch.einsum("nhcp,nhdp->nhcd", q, k) * module.temperature).softmax(-1)
    return module.out(torch.einsum("nhcd,nhdp->nhcp", weights, v).reshape(n, c, h, w))
