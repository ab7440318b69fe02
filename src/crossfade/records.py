"""The base of record classes: what a row is in the application's hands, whichever side it came from.

Both paths build the same classes with the same canonical values: aware UTC datetimes, `Decimal`, parsed JSON,
`Base64` for bytes, plain `str` for enum values, None for a relation that was not included.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict

# Setting the slots of a model by their own descriptors costs a third of what `object.__setattr__` does.
_set_values, _set_given, _set_extra, _set_private = (
    vars(BaseModel)[name].__set__
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)
_new = object.__new__


class Record(BaseModel):
    """One row. Subclasses declare the scalar fields, and relations as optional fields that default to None."""

    model_config = ConfigDict(
        arbitrary_types_allowed=True,
        populate_by_name=True,
        protected_namespaces=(),
        use_enum_values=True,
    )

    @classmethod
    def build(cls, values: dict[str, Any]) -> Self:
        """Make a record from values that are already canonical, without validating them again.

        `values` must hold *every* field, relations included, and now belongs to the record. A driver has checked
        the types; checking them twice costs more than the rest of a query's client side.
        """
        record = _new(cls)
        _set_values(record, values)
        _set_given(record, set(values))
        _set_extra(record, None)
        _set_private(record, None)
        return record
