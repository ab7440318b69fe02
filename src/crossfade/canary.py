"""Which rows are in a canary's share: a pure decision on a row's primary key.

It is the same in every process, after every restart and by whatever key the row was asked for, because nothing enters
it but the model's name and the key. A share that grows keeps the rows that it had.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from crossfade.keys import Key, text_of
from crossfade.operation import Action, Operation

_UNIQUE_READS = frozenset({Action.FIND_UNIQUE, Action.FIND_UNIQUE_OR_RAISE})
_SPAN = 2**64
# Stores take more than one spelling of a UUID, a padded text or a text that ignores case for the same key.
_SPELLING = str.maketrans("", "", "-{}")


def is_candidate(operation: Operation) -> bool:
    """Whether an operation reads one row by a unique key and nothing beside it, so that one side answers it whole."""
    return operation.action in _UNIQUE_READS and "include" not in operation.arguments


def is_primary(key: Key, primary_key: Sequence[str]) -> bool:
    """Whether `key` names the columns of the primary key."""
    return tuple(name for name, _ in key.items) == tuple(primary_key)


def in_share(key: Key, share: float) -> bool:
    """Whether the row of a primary key is in the share, 0 to 1; never, if the key has no text that all would agree on.

    That is so for times, decimals and the like.
    """
    texts = text_of(key)
    if texts is None:
        return False
    told = [key.model, *(text.rstrip().lower().translate(_SPELLING) for text in texts)]
    digest = blake2b("\x1f".join(told).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * _SPAN
