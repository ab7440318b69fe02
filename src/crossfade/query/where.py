"""Conditions: read from Prisma's `where` into nodes, and built from nodes into SQL.

A node is a tuple of names and slots, without values, so that equal shapes are equal keys:

* `(field, operator, slot)`: slot is None where the operator takes no value (`null`, `not_null`);
* `("AND" | "OR" | "NOT", (nodes, nodes, …))`;
* `(relation, "some" | "none" | "every" | "is" | "is_not", nodes or None)`.

What is peculiar here is Prisma's: negated operators are pushed down one by one (`not: {gt, lt}` means `<=` *and* `>=`),
LIKE patterns are not escaped, and three-valued logic is left as SQL has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.sql.expression import FromClause

from crossfade.query.refusals import missing_value, not_found, refused_type, unsupported
from crossfade.query.slots import put, put_list, put_null, takes_null
from crossfade.query.storage import Column, Link, StoredField, StoredModel
from crossfade.schema import RelationSpec, Scalar

Node: TypeAlias = tuple[Any, ...]
Nodes: TypeAlias = tuple[Node, ...]

_ALIASES = {
    "startsWith": "startswith",
    "endsWith": "endswith",
    "notIn": "not_in",
    "hasEvery": "has_every",
    "hasSome": "has_some",
    "isEmpty": "is_empty",
    "isNot": "is_not",
}
_LOGIC = frozenset({"AND", "OR", "NOT"})

_EQUALITY = frozenset({"equals", "not"})
_MEMBERSHIP = _EQUALITY | {"in", "not_in"}
_ORDERED = _MEMBERSHIP | {"lt", "lte", "gt", "gte"}
_TEXTUAL = _ORDERED | {"contains", "startswith", "endswith", "mode"}
_LISTS = frozenset({"equals", "has", "has_every", "has_some", "is_empty"})
_OPERATORS: Mapping[Scalar, frozenset[str]] = {
    Scalar.STRING: _TEXTUAL,
    Scalar.INT: _ORDERED,
    Scalar.BIGINT: _ORDERED,
    Scalar.FLOAT: _ORDERED,
    Scalar.DECIMAL: _ORDERED,
    Scalar.DATETIME: _ORDERED,
    Scalar.BOOLEAN: _EQUALITY,
    Scalar.ENUM: _MEMBERSHIP,
    Scalar.BYTES: _MEMBERSHIP,
    Scalar.JSON: _EQUALITY,
}
_JSON_ONLY = frozenset(
    {
        "path", "string_contains", "string_starts_with", "string_ends_with", "array_contains",
        "array_starts_with", "array_ends_with", "lt", "lte", "gt", "gte",
    }
)  # fmt: skip

_NEGATED = {
    "equals": "not", "not": "equals", "in": "not_in", "not_in": "in", "lt": "gte", "gte": "lt", "gt": "lte",
    "lte": "gt", "contains": "not_contains", "startswith": "not_startswith", "endswith": "not_endswith",
    "null": "not_null", "not_null": "null",
}  # fmt: skip
_PATTERNS: Mapping[str, Callable[[str], str]] = {
    "contains": lambda value: f"%{value}%",
    "startswith": lambda value: f"{value}%",
    "endswith": lambda value: f"%{value}",
}


# --- reading -------------------------------------------------------------------------------------------------


def read_where(
    model: StoredModel, where: Any, values: list[Any], path: str, *, is_branch: bool = False
) -> Nodes:
    """Read a `where`, append its encoded values and return its nodes.

    What says nothing is dropped before the engine looks at it, but only inside AND, OR and NOT (`is_branch`): there
    `OR: []` is nothing, while at the top it is false.

    Raises:
        FieldNotFoundError: an unknown field or operator, or a value of the wrong type.
        MissingRequiredValueError: None where null has no meaning.
        UnsupportedQueryError: Prisma can do it and this side cannot.
    """
    if not isinstance(where, Mapping):
        raise not_found(path)
    nodes: list[Node] = []
    for key, condition in where.items():
        stored = model.fields.get(key)
        if stored is not None:
            if isinstance(condition, Mapping):
                _read_operators(model, stored, condition, values, f"{path}.{key}", nodes)
            elif condition is None:
                nodes.append(_null(stored, "null", f"{path}.{key}"))
            elif stored.spec.is_list or stored.spec.scalar is Scalar.JSON:
                raise not_found(f"{path}.{key}")
            else:
                nodes.append((key, "equals", put(stored, condition, values, f"{path}.{key}")))
        elif key in _LOGIC:
            branches = _read_branches(model, key, condition, values, f"{path}.{key}")
            if branches or not is_branch:
                nodes.append((key, branches))
        elif key in model.spec.relations:
            _read_relation(model, model.spec.relations[key], condition, values, f"{path}.{key}", nodes)
        else:
            raise not_found(f"{path}.{key}")
    return tuple(nodes)


def _null(stored: StoredField, operator: str, path: str) -> Node:
    if not takes_null(stored):
        raise missing_value(path)
    return (stored.name, operator, None)


def _read_operators(
    model: StoredModel,
    stored: StoredField,
    operators: Mapping[str, Any],
    values: list[Any],
    path: str,
    nodes: list[Node],
    *,
    negated: bool = False,
    insensitive: bool | None = None,
) -> None:
    spec = stored.spec
    allowed = _LISTS if spec.is_list else _OPERATORS[spec.scalar]
    if insensitive is None:
        insensitive = operators.get("mode") == "insensitive"
    for given, value in operators.items():
        operator = _ALIASES.get(given, given)
        place = f"{path}.{given}"
        if operator not in allowed:
            if operator == "search" or (spec.scalar is Scalar.JSON and operator in _JSON_ONLY):
                raise unsupported(model.name, place)
            raise not_found(place)
        if operator == "mode":
            if value not in ("default", "insensitive"):
                raise refused_type(value, place)
        elif spec.is_list:
            nodes.append(_read_list_operator(stored, operator, value, values, place))
        elif operator == "not" and isinstance(value, Mapping) and spec.scalar is not Scalar.JSON:
            _read_operators(
                model, stored, value, values, place, nodes, negated=not negated, insensitive=insensitive
            )
        else:
            node = _read_operator(stored, operator, value, values, place)
            # The engine reads `not: value` alike at every depth; only the other operators turn round.
            operator = _NEGATED[node[1]] if negated and operator != "not" else node[1]
            nodes.append((node[0], f"i:{operator}" if insensitive else operator, node[2]))


def _read_operator(stored: StoredField, operator: str, value: Any, values: list[Any], path: str) -> Node:
    if value is None:
        if operator in ("equals", "in"):
            return _null(stored, "null", path)
        if operator in ("not", "not_in"):
            return _null(stored, "not_null", path)
        raise missing_value(path)
    if operator in ("in", "not_in"):
        return (stored.name, operator, put_list(stored, value, values, path))
    slot = put(stored, value, values, path)
    pattern = _PATTERNS.get(operator)
    if pattern is not None:
        values[slot] = pattern(values[slot])
    return (stored.name, operator, slot)


def _read_list_operator(stored: StoredField, operator: str, value: Any, values: list[Any], path: str) -> Node:
    if operator == "is_empty":
        if value is True or value is False:
            return (stored.name, "is_empty" if value else "is_not_empty", None)
        raise refused_type(value, path)
    if operator == "equals" and value is None:
        return (stored.name, "null", None)
    if operator == "has":
        slot = put_null(values) if value is None else put(stored, value, values, path)
        return (stored.name, "has", slot)
    if value is None:
        raise missing_value(path)
    return (stored.name, f"list_{operator}", put_list(stored, value, values, path))


def _read_branches(
    model: StoredModel, kind: str, branches: Any, values: list[Any], path: str
) -> tuple[Nodes, ...]:
    if isinstance(branches, Mapping) and kind != "OR":
        branches = (branches,)
    if not isinstance(branches, (list, tuple)):
        raise refused_type(branches, path)
    read = [read_where(model, branch, values, path, is_branch=True) for branch in branches]
    return tuple([nodes for nodes in read if nodes])


def _read_relation(
    model: StoredModel,
    relation: RelationSpec,
    condition: Any,
    values: list[Any],
    path: str,
    nodes: list[Node],
) -> None:
    other = model.links[relation.name].other
    if relation.is_list:
        if not isinstance(condition, Mapping):
            raise refused_type(condition, path)
        for quantifier, nested in condition.items():
            place = f"{path}.{quantifier}"
            if quantifier not in ("some", "every", "none"):
                raise not_found(place)
            if nested is None:
                raise missing_value(place)
            nodes.append((relation.name, quantifier, read_where(other, nested, values, place)))
        return
    if not isinstance(condition, Mapping) or not _speaks_of_row(condition):
        condition = {"is": condition}
    for given, nested in condition.items():
        operator = _ALIASES.get(given, given)
        place = f"{path}.{given}"
        if operator not in ("is", "is_not"):
            raise not_found(place)
        if nested is None:
            if relation.is_required:
                raise missing_value(place)
            nodes.append((relation.name, operator, None))
        else:
            nodes.append((relation.name, operator, read_where(other, nested, values, place)))


def _speaks_of_row(condition: Mapping[str, Any]) -> bool:
    return any(_ALIASES.get(key, key) in ("is", "is_not") for key in condition)


# --- building ------------------------------------------------------------------------------------------------


def build_where(
    model: StoredModel, source: FromClause, nodes: Nodes, *, negated: bool = False, joins: bool = True
) -> Column:
    """Return the condition for rows of `source`, which is the model's table or an alias of it.

    Args:
        model: what the rows are.
        source: where they are.
        nodes: the conditions, all of which must hold.
        negated: build the opposite. It is carried down to the single conditions, as the engine does, because the
            opposite of `is` is not `NOT` in SQL's logic but `is_not`.
        joins: whether a to-one relation at the top is joined. The engine cannot do so in a bulk write: there it
            compares keys, so that rows without a key are neither `is` nor `is_not`.
    """
    built = (_build(model, source, node, negated=negated, joins=joins) for node in nodes)
    return sa.or_(sa.false(), *built) if negated else sa.and_(sa.true(), *built)


def _build(model: StoredModel, source: FromClause, node: Node, *, negated: bool, joins: bool) -> Column:
    if node[0] in _LOGIC:
        inverted = negated != (node[0] == "NOT")
        branches = [build_where(model, source, nodes, negated=inverted, joins=joins) for nodes in node[1]]
        one_is_enough = negated != (node[0] == "OR")
        return sa.or_(sa.false(), *branches) if one_is_enough else sa.and_(sa.true(), *branches)
    name, operator, operand = node
    stored = model.fields.get(name)
    if stored is None:
        return _build_relation(model, source, name, operator, operand, negated=negated, joins=joins)
    column = stored.of(source)
    if operator.startswith("i:"):
        condition = _INSENSITIVE.get(operator[2:], _SENSITIVE[operator[2:]])(stored, column, operand)
    else:
        condition = _SENSITIVE[operator](stored, column, operand)
    return sa.not_(condition) if negated else condition


def _build_relation(
    model: StoredModel,
    source: FromClause,
    name: str,
    operator: str,
    nodes: Nodes | None,
    *,
    negated: bool,
    joins: bool,
) -> Column:
    link = model.links[name]
    related = link.other.alias()
    joined = link.joined(source, related)

    def some(*conditions: Column) -> Column:
        subquery: sa.Select[Any] = (
            sa.select(sa.literal_column("1")).select_from(related).where(joined, *conditions)
        )
        return sa.exists(subquery.correlate(source))

    if operator in ("is", "is_not"):
        wanted = (operator == "is") != negated
        if nodes is None:
            missing = sa.not_(some())
            if link.holds_key:
                missing = sa.or_(*(here.of(source).is_(None) for here in link.here))
            return missing if wanted else sa.not_(missing)
        if not joins:
            return _among_keys(link, source, related, nodes, wanted=wanted)
        condition = build_where(link.other, related, nodes, negated=not wanted)
        return some(condition) if wanted else sa.or_(some(condition), sa.not_(some()))
    assert nodes is not None
    if operator == "every":
        # A condition that is null does not speak against `every`, nor does its opposite.
        condition = sa.not_(some(build_where(link.other, related, nodes, negated=True)))
    else:
        condition = some(build_where(link.other, related, nodes))
        condition = sa.not_(condition) if operator == "none" else condition
    return sa.not_(condition) if negated else condition


def _among_keys(link: Link, source: FromClause, related: FromClause, nodes: Nodes, *, wanted: bool) -> Column:
    here = sa.tuple_(*(field.of(source) for field in link.here))
    there = [field.of(related) for field in link.there]
    condition = build_where(link.other, related, nodes)
    keys = sa.select(*there).where(condition, *(key.is_not(None) for key in there))
    found = here.in_(keys)
    return found if wanted else sa.not_(found)


_Operator = Callable[[StoredField, Column, Any], Column]


def _comparable(stored: StoredField, column: Column) -> Column:
    # Plain json has no equality; jsonb, to which the parameter is cast anyway, has.
    if stored.spec.scalar is Scalar.JSON and not stored.spec.is_list:
        return sa.cast(column, stored.codec.cast or column.type)
    return column


_SENSITIVE: Mapping[str, _Operator] = {
    "null": lambda _, c, __: c.is_(None),
    "not_null": lambda _, c, __: c.is_not(None),
    "equals": lambda f, c, s: _comparable(f, c) == f.parameter(s),
    "not": lambda f, c, s: _comparable(f, c) != f.parameter(s),
    "in": lambda f, c, s: c == sa.any_(f.array(s)),
    "not_in": lambda f, c, s: c != sa.all_(f.array(s)),
    "lt": lambda f, c, s: c < f.parameter(s),
    "lte": lambda f, c, s: c <= f.parameter(s),
    "gt": lambda f, c, s: c > f.parameter(s),
    "gte": lambda f, c, s: c >= f.parameter(s),
    "contains": lambda f, c, s: c.like(f.parameter(s)),
    "startswith": lambda f, c, s: c.like(f.parameter(s)),
    "endswith": lambda f, c, s: c.like(f.parameter(s)),
    "not_contains": lambda f, c, s: c.not_like(f.parameter(s)),
    "not_startswith": lambda f, c, s: c.not_like(f.parameter(s)),
    "not_endswith": lambda f, c, s: c.not_like(f.parameter(s)),
    "has": lambda f, c, s: f.parameter(s) == sa.any_(c),
    "list_has_every": lambda f, c, s: c.op("@>", is_comparison=True)(f.array(s)),
    "list_has_some": lambda f, c, s: c.op("&&", is_comparison=True)(f.array(s)),
    "list_equals": lambda f, c, s: c == f.array(s),
    "is_empty": lambda _, c, __: sa.func.cardinality(c) == sa.literal_column("0"),
    "is_not_empty": lambda _, c, __: sa.func.cardinality(c) != sa.literal_column("0"),
}


def _lower(value: Column) -> Column:
    return sa.func.lower(value)


def _lowered_elements(stored: StoredField, slot: int) -> Any:
    element = sa.func.unnest(stored.array(slot)).column_valued("element")
    return sa.select(sa.func.lower(element))


_INSENSITIVE: Mapping[str, _Operator] = {
    # ILIKE without an escape, as the engine does it: `_` and `%` are wild even in `equals`.
    "equals": lambda f, c, s: c.ilike(f.parameter(s)),
    "not": lambda f, c, s: c.not_ilike(f.parameter(s)),
    "in": lambda f, c, s: _lower(c).in_(_lowered_elements(f, s)),
    "not_in": lambda f, c, s: _lower(c).not_in(_lowered_elements(f, s)),
    "lt": lambda f, c, s: _lower(c) < _lower(f.parameter(s)),
    "lte": lambda f, c, s: _lower(c) <= _lower(f.parameter(s)),
    "gt": lambda f, c, s: _lower(c) > _lower(f.parameter(s)),
    "gte": lambda f, c, s: _lower(c) >= _lower(f.parameter(s)),
    "contains": lambda f, c, s: c.ilike(f.parameter(s)),
    "startswith": lambda f, c, s: c.ilike(f.parameter(s)),
    "endswith": lambda f, c, s: c.ilike(f.parameter(s)),
    "not_contains": lambda f, c, s: c.not_ilike(f.parameter(s)),
    "not_startswith": lambda f, c, s: c.not_ilike(f.parameter(s)),
    "not_endswith": lambda f, c, s: c.not_ilike(f.parameter(s)),
}
