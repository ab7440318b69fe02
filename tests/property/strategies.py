"""Random operations over the marketplace, and the rows they meet.

Values come from small pools that the rows are made of as well, so that random filters find something. Everything is
derived from the schema: a new field or model is covered without a word here.

Where a question has more than one right answer (rows that tie in an order and are cut by a limit), it is not asked:
every order ends with the primary key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import wraps
from typing import Any, TypeVar

from hypothesis import strategies as st

from crossfade.fields import Base64, Json
from crossfade.operation import Action, Operation
from crossfade.schema import FieldSpec, ModelSpec, RelationSpec, Scalar, Schema

Where = st.SearchStrategy[dict[str, Any]]

_MOMENTS = [datetime(2026, 1, day, 12, 30, 15, 123000, tzinfo=UTC) for day in (1, 2, 3)]

POOLS: Mapping[Scalar, list[Any]] = {
    Scalar.STRING: ["", "a", "A", "b", "ab", "Ab", "a%", "a_b", "žluť", "100"],
    Scalar.INT: [0, 1, 2, -1, 7, 1000],
    Scalar.BIGINT: [0, 1, -1, 2**40, 2**53 + 1],
    Scalar.FLOAT: [0.0, 1.0, -1.5, 0.1, 1000.25],
    Scalar.DECIMAL: [Decimal(text) for text in ("0", "1", "-1.5", "1.50", "9.99", "100")],
    Scalar.BOOLEAN: [True, False],
    Scalar.DATETIME: _MOMENTS,
    Scalar.BYTES: [Base64.encode(raw) for raw in (b"", b"\x00", b"\xff\xfe", b"text")],
    Scalar.JSON: [Json(value) for value in ({}, [], {"a": 1}, {"a": [1, None, "x"], "b": 1.5}, "a", 7, True)],
}
ROWS = 8
"""How many rows each model has."""


Made = TypeVar("Made")


def _made_once(make: Callable[..., Made]) -> Callable[..., Made]:
    """Keep what a method of `Maker` makes for a model: making nested strategies costs more than drawing from them."""

    @wraps(make)
    def remembered(self: Maker, spec: ModelSpec, *rest: Any) -> Made:
        key = (make.__name__, spec.name, *rest)
        if key not in self.made:
            self.made[key] = make(self, spec, *rest)
        return self.made[key]

    return remembered


class Maker:
    """Strategies for one schema."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.made: dict[tuple[Any, ...], Any] = {}
        self.foreign_keys = {
            (spec.name, here): (relation.model, there)
            for spec in schema
            for relation in spec.relations.values()
            for here, there in zip(relation.from_fields, relation.to_fields, strict=True)
        }

    # --- values ------------------------------------------------------------------------------------------------

    def pool(self, spec: ModelSpec, field: FieldSpec) -> list[Any]:
        """The values that one field (one element, for a list) is given and looked for."""
        target = self.foreign_keys.get((spec.name, field.name))
        if target is not None:
            return [self.key(self.schema.models[target[0]], number) for number in range(ROWS + 1)]
        if spec.primary_key == (field.name,) or field.is_unique:
            return [self.key(spec, number) for number in range(ROWS + 2)]
        if field.enum is not None:
            return list(self.schema.enums[field.enum].values)
        return POOLS[field.scalar]

    def key(self, spec: ModelSpec, number: int) -> Any:
        """The key of a model's row, also the value of its other unique fields."""
        key = spec.fields[spec.primary_key[0]]
        return number + 1 if key.scalar in (Scalar.INT, Scalar.BIGINT) else f"{spec.name.lower()}-{number}"

    def one(self, spec: ModelSpec, field: FieldSpec) -> st.SearchStrategy[Any]:
        """One value of a field, or of its elements."""
        return st.sampled_from(self.pool(spec, field))

    def whole(self, spec: ModelSpec, field: FieldSpec) -> st.SearchStrategy[Any]:
        """What a field may be written with: a value, a list, or None where it is nullable."""
        value = self.one(spec, field)
        if field.is_list:
            return st.lists(value, max_size=3)
        if not field.is_required and field.scalar is not Scalar.JSON:
            return st.none() | value
        return value

    def rows(self, spec: ModelSpec) -> list[dict[str, Any]]:
        """The data set of one model. Where each row takes a parent for itself, some parents are left without."""
        alone = any(f.is_unique and (spec.name, f.name) in self.foreign_keys for f in spec.fields.values())
        return [self.row(spec, number) for number in range(ROWS - 3 if alone else ROWS)]

    def row(self, spec: ModelSpec, number: int) -> dict[str, Any]:
        """A complete row of the data set; the same for the same number."""
        row: dict[str, Any] = {}
        for place, field in enumerate(spec.fields.values()):
            pool = self.pool(spec, field)
            if (spec.name, field.name) in self.foreign_keys:
                pool = pool[:ROWS]  # the last one names no row
            value = pool[(number * (place % 3 + 1) + place) % len(pool)]
            if spec.primary_key == (field.name,) or field.is_unique:
                target = self.foreign_keys.get((spec.name, field.name))
                row[field.name] = self.key(self.schema.models[target[0]] if target else spec, number)
            elif field.is_list:
                row[field.name] = [pool[(number + step) % len(pool)] for step in range(number % 4)]
                if (number + place) % 5 == 0:
                    del row[field.name]
            elif not field.is_required and (number + place) % 3 == 0:
                continue
            else:
                row[field.name] = value
        for fields in spec.uniques.values():
            texts = [name for name in fields if spec.fields[name].scalar is Scalar.STRING]
            own = [name for name in texts if (spec.name, name) not in self.foreign_keys]
            if len(fields) > 1:
                row[own[0]] = f"{spec.name.lower()}-{number}"
        for relation in spec.relations.values():
            if relation.model == spec.name and relation.from_fields:
                # Only earlier rows are there to point at.
                row[relation.from_fields[0]] = self.key(spec, number // 2) if number % 3 else None
        return row

    # --- where -------------------------------------------------------------------------------------------------

    @_made_once
    def where(self, spec: ModelSpec, depth: int = 2) -> Where:
        """A filter; relations and combinations nest `depth` deep."""
        parts = [self._condition(spec, field) for field in spec.fields.values()]
        if depth:
            parts += [self._related(relation, depth - 1) for relation in spec.relations.values()]
            nested = st.lists(self.where(spec, depth - 1), max_size=2)
            parts += [
                nested.map(lambda branches, key=key: {key: branches}) for key in ("AND", "OR", "NOT")
            ] * 2
        return st.lists(st.one_of(parts), max_size=2).map(
            lambda found: {k: v for part in found for k, v in part.items()}
        )

    def _condition(self, spec: ModelSpec, field: FieldSpec) -> Where:
        value = self.one(spec, field)
        several = st.lists(value, max_size=3)
        kinds: list[st.SearchStrategy[Any]]
        if field.is_list:
            kinds = [
                st.fixed_dictionaries({"has": value}),
                st.fixed_dictionaries({"has_every": several}),
                st.fixed_dictionaries({"has_some": several}),
                st.fixed_dictionaries({"equals": several | st.none()}),
                st.fixed_dictionaries({"is_empty": st.booleans()}),
            ]
        else:
            kinds = self._comparisons(field, value, several)
        return st.one_of(kinds).map(lambda condition: {field.name: condition})

    def _comparisons(
        self, field: FieldSpec, value: st.SearchStrategy[Any], several: st.SearchStrategy[list[Any]]
    ) -> list[st.SearchStrategy[Any]]:
        nullable = not field.is_required and field.scalar is not Scalar.JSON
        maybe = value | st.none() if nullable else value
        operators: dict[str, st.SearchStrategy[Any]] = {"equals": maybe, "not": maybe}
        if field.scalar not in (Scalar.JSON, Scalar.BOOLEAN):
            operators |= {"in": several, "not_in": several}
        if field.scalar not in (Scalar.JSON, Scalar.BOOLEAN, Scalar.BYTES, Scalar.ENUM):
            operators |= dict.fromkeys(("lt", "lte", "gt", "gte"), value)
        if field.scalar is Scalar.STRING:
            operators |= dict.fromkeys(("contains", "startswith", "endswith"), value)
        plain = st.dictionaries(
            st.sampled_from(sorted(operators)), st.none(), min_size=1, max_size=2
        ).flatmap(lambda chosen: st.fixed_dictionaries({name: operators[name] for name in chosen}))
        kinds = [plain, plain.map(lambda condition: {"not": condition})]
        if field.scalar is Scalar.STRING:
            kinds.append(plain.map(lambda condition: {**condition, "mode": "insensitive"}))
        if field.scalar is not Scalar.JSON:
            kinds.append(maybe)
        return kinds

    def _related(self, relation: RelationSpec, depth: int) -> Where:
        nested = self.where(self.schema.models[relation.model], depth)
        if relation.is_list:
            kinds = [nested.map(lambda where, key=key: {key: where}) for key in ("some", "none", "every")]
        else:
            kinds = [nested.map(lambda where, key=key: {key: where}) for key in ("is", "is_not")]
            if not relation.is_required:
                kinds += [st.just(None), st.sampled_from([{"is": None}, {"is_not": None}])]
        return st.one_of(kinds).map(lambda condition: {relation.name: condition})

    @_made_once
    def unique(self, spec: ModelSpec) -> Where:
        """A `where` that names one row, which may exist."""
        choices = []
        for name, fields in spec.uniques.items():
            values = st.fixed_dictionaries(
                {field: self._present(spec, spec.fields[field]) for field in fields}
            )
            choices.append(values if len(fields) == 1 else values.map(lambda key, name=name: {name: key}))
        return st.one_of(choices)

    def _present(self, spec: ModelSpec, field: FieldSpec) -> st.SearchStrategy[Any]:
        found = [row[field.name] for row in self.rows(spec) if field.name in row]
        return st.sampled_from(found) | self.one(spec, field)

    # --- the rest of a read ------------------------------------------------------------------------------------

    @_made_once
    def order(self, spec: ModelSpec) -> st.SearchStrategy[list[dict[str, str]]]:
        """An order that leaves no ties."""
        names = [f.name for f in spec.fields.values() if not f.is_list and f.scalar is not Scalar.JSON]
        direction = st.sampled_from(["asc", "desc"])
        terms = st.lists(st.tuples(st.sampled_from(names), direction), max_size=2)
        return st.tuples(terms, direction).map(
            lambda drawn: [{name: way} for name, way in drawn[0]] + [{spec.primary_key[0]: drawn[1]}]
        )

    @_made_once
    def include(self, spec: ModelSpec, depth: int = 2) -> st.SearchStrategy[dict[str, Any]]:
        """Relations to load, with filters, orders and limits of their own."""
        choices: dict[str, st.SearchStrategy[Any]] = {}
        for relation in spec.relations.values():
            other = self.schema.models[relation.model]
            deeper = {"include": self.include(other, depth - 1)} if depth > 1 else {}
            if relation.is_list:
                arguments = st.fixed_dictionaries(
                    {"order_by": self.order(other)},
                    optional={
                        "where": self.where(other, 1),
                        "take": st.integers(-2, 3),
                        "skip": st.integers(0, 2),
                        **deeper,
                    },
                )
                choices[relation.name] = arguments
            else:
                choices[relation.name] = st.booleans() | st.fixed_dictionaries(deeper)
        names = st.lists(st.sampled_from(sorted(choices)), max_size=2, unique=True)
        return names.flatmap(lambda chosen: st.fixed_dictionaries({name: choices[name] for name in chosen}))

    def reads(self) -> st.SearchStrategy[Operation]:
        """Any read of any model."""
        return st.sampled_from(list(self.schema)).flatmap(self._reads_of)

    @_made_once
    def _reads_of(self, spec: ModelSpec) -> st.SearchStrategy[Operation]:
        where, include, order = self.where(spec), self.include(spec), self.order(spec)
        take, skip = st.integers(-3, 5), st.integers(0, 3)
        countable = st.dictionaries(
            st.sampled_from(["_all", *spec.fields]), st.just(value=True), min_size=1, max_size=3
        )
        find = {"where": where, "include": include}
        names = [f.name for f in spec.fields.values() if f.scalar is not Scalar.JSON and not f.is_list]
        window = {
            "take": take,
            "skip": skip,
            "cursor": self.unique(spec),
            "distinct": st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True),
        }
        shapes: dict[Action, st.SearchStrategy[dict[str, Any]]] = {
            Action.FIND_MANY: st.fixed_dictionaries({"order": order}, optional={**find, **window}),
            Action.FIND_FIRST: st.fixed_dictionaries({"order": order}, optional={**find, "skip": skip}),
            Action.FIND_UNIQUE: st.fixed_dictionaries(
                {"where": self.unique(spec)}, optional={"include": include}
            ),
            Action.COUNT: st.fixed_dictionaries(
                {}, optional={"where": where, "take": take, "skip": skip, "select": countable}
            ),
        }
        return st.sampled_from([Action.FIND_MANY, *shapes]).flatmap(
            lambda action: shapes[action].map(lambda arguments: Operation(spec.name, action, arguments))
        )

    # --- writes ------------------------------------------------------------------------------------------------

    def writes(self) -> st.SearchStrategy[Operation]:
        """Any write of any model; some are refused, for a duplicate, a missing parent or a row still needed."""
        return st.sampled_from(list(self.schema)).flatmap(self._writes_of)

    @_made_once
    def _writes_of(self, spec: ModelSpec) -> st.SearchStrategy[Operation]:
        unique, where, create, change = (
            self.unique(spec),
            self.where(spec, 1),
            self._new(spec),
            self._change(spec),
        )
        include = self.include(spec, 1)
        given = st.fixed_dictionaries
        shapes: dict[Action, st.SearchStrategy[dict[str, Any]]] = {
            Action.CREATE: given({"data": create}, optional={"include": include}),
            Action.CREATE_MANY: given(
                {"data": st.lists(create, max_size=3)}, optional={"skip_duplicates": st.booleans()}
            ),
            Action.UPDATE: given({"where": unique, "data": change}, optional={"include": include}),
            Action.UPDATE_MANY: given({"where": where, "data": change}),
            Action.UPSERT: given(
                {"where": unique, "data": given({"create": create, "update": change})},
                optional={"include": include},
            ),
            Action.DELETE: given({"where": unique}),
            Action.DELETE_MANY: given({"where": where}),
        }
        return st.sampled_from(list(shapes)).flatmap(
            lambda action: shapes[action].map(lambda arguments: Operation(spec.name, action, arguments))
        )

    @_made_once
    def _new(self, spec: ModelSpec) -> st.SearchStrategy[dict[str, Any]]:
        """A new row. Keys are given, because a sequence counts refused rows as well, and not alike on both sides."""
        required, optional = {}, {}
        for field in spec.fields.values():
            needed = (
                field.is_required and not field.is_list and field.default is None and not field.is_updated_at
            )
            target = required if needed or field.name in spec.primary_key else optional
            is_key = field.name in spec.primary_key or field.is_unique
            if is_key and (spec.name, field.name) not in self.foreign_keys:
                target[field.name] = st.sampled_from([self.key(spec, n) for n in range(ROWS - 1, ROWS + 6)])
            else:
                target[field.name] = self.whole(spec, field)
        return st.fixed_dictionaries(required, optional=optional)

    @_made_once
    def _change(self, spec: ModelSpec) -> st.SearchStrategy[dict[str, Any]]:
        choices = {
            field.name: self._field_change(spec, field)
            for field in spec.fields.values()
            if field.name not in spec.primary_key
        }
        names = st.lists(st.sampled_from(sorted(choices)), max_size=3, unique=True)
        return names.flatmap(lambda chosen: st.fixed_dictionaries({name: choices[name] for name in chosen}))

    def _field_change(self, spec: ModelSpec, field: FieldSpec) -> st.SearchStrategy[Any]:
        whole = self.whole(spec, field)
        kinds = [whole]
        if field.is_list:
            kinds.append(st.fixed_dictionaries({"push": st.lists(self.one(spec, field), max_size=2)}))
            kinds.append(st.fixed_dictionaries({"set": whole}))
        elif field.scalar in (Scalar.INT, Scalar.BIGINT, Scalar.FLOAT, Scalar.DECIMAL):
            small = st.sampled_from(
                [1, 2, 3] if field.scalar in (Scalar.INT, Scalar.BIGINT) else [Decimal("0.5"), 2]
            )
            if field.scalar is Scalar.FLOAT:
                small = st.sampled_from([0.5, 2.0])
            kinds += [
                small.map(lambda value, key=key: {key: value})
                for key in ("set", "increment", "decrement", "multiply", "divide")
            ]
        elif field.scalar is not Scalar.JSON:
            kinds.append(st.fixed_dictionaries({"set": whole}))
        return st.one_of(kinds)
