"""Values that Python has no type of its own for: `Json` documents and `Base64` bytes.

Both stand where Prisma Client Python has a class of the same name, so that call sites need only another import.
"""

from __future__ import annotations

import base64
from typing import Any


class Json:
    """Marks a value as a JSON document in arguments: `data={"details": Json({"a": 1})}`.

    Results hold the parsed document itself, without this wrapper.
    """

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data

    @classmethod
    def keys(cls, **data: Any) -> Json:
        """Build a document from keyword arguments."""
        return cls(data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Json) and self.data == other.data

    __hash__ = None  # type: ignore[assignment]  # documents are mutable

    def __repr__(self) -> str:
        return "Json(…)"


class Base64:
    """Bytes in the base64 form that a `Bytes` field has in arguments and results."""

    __slots__ = ("_encoded",)

    def __init__(self, encoded: str | bytes) -> None:
        self._encoded = encoded if isinstance(encoded, str) else encoded.decode("ascii")

    @classmethod
    def encode(cls, raw: bytes) -> Base64:
        """Wrap raw bytes."""
        return cls(base64.b64encode(raw))

    def decode(self) -> bytes:
        """Return the raw bytes."""
        return base64.b64decode(self._encoded)

    def decode_str(self, encoding: str = "utf-8") -> str:
        """Return the raw bytes as text."""
        return self.decode().decode(encoding)

    def __str__(self) -> str:
        return self._encoded

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Base64) and self.decode() == other.decode()

    def __hash__(self) -> int:
        return hash(self.decode())

    def __repr__(self) -> str:
        return "Base64(…)"
