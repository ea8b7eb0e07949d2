"""Which captions are embedded anew: those of a finished prior, into a prior of its own."""

from __future__ import annotations

from pipeline.errors import InputError
from pipeline.store import DEFAULT_PRIOR, Store


def frozen_source(store: Store, wanted: str | None, embedder: str) -> str | None:
    """The finished prior whose captions are meant, or None where nothing is finished.

    That is the one after which the new prior is called (``wanted`` is ``<prior>-<embedder>``), else ``text``, else the only
    one. Raises InputError where several are left, and where ``wanted`` is finished itself.
    """
    finished = [name for name in store.prior_names() if len(store.finished(name)) == store.header.shards]
    own = [name for name in finished if "frozen" not in store.fingerprint(name)["captioner"]]
    if wanted in own:
        raise InputError(f"--prior {wanted}: it is finished and never changed; choose another name for the new one")
    named = [name for name in own if f"{name}-{embedder}" == wanted]
    found = named or [name for name in own if name == DEFAULT_PRIOR] or own
    if len(found) > 1:
        raise InputError(
            f"{store.name}: several priors are finished, {', '.join(found)}: say by the new one's name whose captions it gets, "
            f"as --prior {found[0]}-{embedder}"
        )
    return found[0] if found else None
