"""Whose texts a network reads: vectors of one embedder mean nothing to a network that was trained with another's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusion.weights import Weights
from pipeline.errors import InputError, WeightsError

if TYPE_CHECKING:
    from fusion.reader import Pairs


def check_reads(weights: Weights, embedder: Mapping[str, Any], source: str) -> None:
    """Raise WeightsError where the network reads texts of another width or embedder than those of ``source``.

    ``embedder``: of the prior's fingerprint. A network that reads no text reads any, and one whose config.json does not
    tell whose texts it was trained with is known by their width alone.
    """
    width = text_width(weights)
    if width is None:
        return
    advice = "take the store and prior it was trained on, or caption again with the same embedder"
    if width != embedder["width"]:
        raise WeightsError(
            f"{weights.name}: this network reads text embeddings of width {width}, but {source} holds width "
            f"{embedder['width']}; {advice}"
        )
    own = trained_with(weights)
    if own is not None and not same_embedder(own, embedder):
        raise WeightsError(
            f"{weights.name}: this network reads texts of the embedder {named(own)}, but {source} holds those of "
            f"{named(embedder)}; {advice}"
        )


def check_mixed(stores: Sequence[Pairs], prior: str, *, read: bool) -> None:
    """Raise InputError when mixed stores hold text embeddings of different widths or, if ``read``, embedders."""
    first = stores[0]
    ours = first.shelf.fingerprint(prior)["embedder"]
    for pairs in stores[1:]:
        if pairs.text_width != first.text_width:
            raise InputError(
                f"{first.shelf.name} holds text embeddings of width {first.text_width}, {pairs.shelf.name} of "
                f"width {pairs.text_width}; stores that are mixed need the same embedder"
            )
        theirs = pairs.shelf.fingerprint(prior)["embedder"]
        if read and not same_embedder(ours, theirs):
            raise InputError(
                f"{first.shelf.name} holds texts of the embedder {named(ours)}, {pairs.shelf.name} of {named(theirs)}; "
                "stores that are mixed need the same embedder"
            )


def text_width(weights: Weights) -> int | None:
    """Width of the text embeddings a network is conditioned on; None for one without text."""
    return getattr(getattr(weights.network, "config", None), "text_width", None)


def trained_with(weights: Weights) -> Mapping[str, Any] | None:
    """The embedder whose texts a network was trained with, as its run wrote it down; None where it did not."""
    training = weights.config.get("training")
    stores = training.get("stores") if isinstance(training, dict) else None
    first = stores[0] if isinstance(stores, list) and stores else None
    embedder = first.get("embedder") if isinstance(first, dict) else None
    return embedder if isinstance(embedder, dict) else None


def same_embedder(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two fingerprints are of embedders whose vectors mean the same."""
    # engine and precision change a vector by rounding; rounded weights have another digest, and are known by their name
    aside = {"engine", "precision"} | {
        "pretrained" if one.get("precision") == other.get("precision") else "weights_digest"
    }
    return all(one.get(key) == other.get(key) for key in (one.keys() | other.keys()) - aside)


def named(embedder: Mapping[str, Any]) -> str:
    """``hashing``, or ``clip ViT-B-32 (weights 0123abcd)``."""
    digest = embedder.get("weights_digest")
    words = [str(embedder[key]) for key in ("name", "model") if key in embedder]
    return " ".join([*words, *([f"(weights {str(digest)[:8]})"] if digest else [])])
