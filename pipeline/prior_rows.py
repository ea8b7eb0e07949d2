"""Rows of a text prior: from captions to rows, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.embedders import Embedder
from pipeline.events import Caption, Event, caption_text
from pipeline.plan import PlanRow
from pipeline.shards import FAILED, OK
from pipeline.tasks import Task


def prior_rows(
    rows: Sequence[PlanRow], captions: Mapping[str, Caption], task: Task, embedder: Embedder
) -> list[dict[str, Any]]:
    """The rows of a text prior. A failed pair has its error and raw text, and neither vector nor weights."""
    good = [row for row in rows if captions[row.key].error_kind is None]
    fitted = [embedder.fit(captions[row.key]) for row in good]
    vectors = list(embedder.embed([text.text for text in fitted])) if good else []
    texts = {row.key: (text, vector) for row, text, vector in zip(good, fitted, vectors, strict=True)}
    made = []
    for row in rows:
        caption = captions[row.key]
        fit, vector = texts.get(row.key, (None, None))
        made.append(
            {
                "key": row.key,
                "pair_id": row.pair_id,
                "status": OK if fit else FAILED,
                "error_kind": caption.error_kind,
                "error": caption.error,
                "caption": caption_text(caption) if fit else None,
                "scene": caption.scene if fit else None,
                "events": [vars(event) for event in caption.events] if fit else None,
                "clip_text": fit.text if fit else None,
                "tokens": fit.tokens if fit else None,
                "dropped_events": fit.dropped if fit else None,
                "text_embedding": vector,
                "loss_weights": task.weights_for(e.type for e in caption.events).as_dict() if fit else None,
                "raw_response": caption.raw,
                "finish_reason": caption.finish_reason,
                "response_tokens": caption.tokens,
            }
        )
    return made


def stored_caption(row: Mapping[str, Any]) -> Caption:
    """The caption that a prior's row holds."""
    return Caption(
        events=tuple(Event(**event) for event in row["events"] or ()),
        scene=row["scene"] or "",
        raw=row["raw_response"] or "",
        finish_reason=row["finish_reason"],
        error_kind=row["error_kind"],
        error=row["error"],
        tokens=row["response_tokens"],
    )
