"""The project's own exceptions. A message says what was found, where, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FusionError(Exception):
    """Base of every expected failure; the command line prints its text and leaves with ``exit_code``."""

    exit_code = 1


class InputError(FusionError):
    """The user gave something that cannot be used: a path, an option, a file."""

    exit_code = 2


class ImageError(InputError):
    """An image file is unreadable, of a wrong kind or of an impossible size."""


class ManifestError(InputError):
    """A manifest, task or recipe file is wrong or does not exist."""


class PairingError(InputError):
    """Files of the two modalities do not form pairs."""


class StoreError(InputError):
    """A store is missing, incomplete, damaged or of another schema version."""


class FingerprintMismatch(StoreError):
    """A run was resumed under settings that would give other content."""


class WeightsError(InputError):
    """Weights are missing, damaged or belong to another network."""


class MissingPackage(InputError):
    """An optional package is needed for what was asked."""


class TrainingError(FusionError):
    """Training could not go on: exploding loss, out of memory, a checkpoint that does not fit."""


class TooManyFailures(FusionError):
    """The work finished, with more failed pairs than allowed."""

    exit_code = 3


def closest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known name most like ``name``, or an empty string."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
