"""What a mapping may say, and what it is refused for."""

from __future__ import annotations

import pytest

from crossfade.errors import MappingError
from crossfade.mapping import Added, Converted, Dropped, Mapping, Mappings, Renamed
from crossfade.store.fitting import Fit, fit, keeps_text

PRICE = Converted("cents", "price", "{}::numeric / 100", "({} * 100)::integer")


def problems(*columns: Renamed | Converted | Dropped | Added) -> tuple[str, ...]:
    """What a mapping with these columns is refused for."""
    with pytest.raises(MappingError) as refused:
        Mapping("Item", columns=columns)
    return refused.value.problems


def test_a_column_is_found_by_its_legacy_name() -> None:
    """Renamed, converted, dropped, or as it was."""
    mapping = Mapping(
        "Item", columns=(Renamed("a", "b"), PRICE, Dropped("gone", one_way=True), Added("more"))
    )
    assert ["b", "price", None, "other"] == [mapping.target_of(n) for n in ("a", "cents", "gone", "other")]
    assert PRICE == mapping.conversion_of("cents")
    assert None is mapping.conversion_of("a")
    assert {"b": "a", "price": "cents"} == mapping.legacy_names
    assert mapping.is_one_way
    assert not Mapping("Item", columns=(PRICE,)).is_one_way


def test_losing_something_has_to_be_said() -> None:
    """All of it is listed, with what to write instead."""
    found = problems(Dropped("note"), Converted("secret", "hash", "md5({})"), Converted("n", "n", "1", "{}"))
    assert 'Dropped("note", one_way=True)' in found[0]
    assert "column secret has no way back" in found[1]
    assert "column n does not say where the value goes" in found[2]
    Mapping(
        "Item", columns=(Dropped("note", one_way=True), Converted("secret", "hash", "md5({})", one_way=True))
    )


def test_a_column_is_mapped_once() -> None:
    """From one column and to one column, and a model has one mapping."""
    assert ("legacy column a is mapped more than once",) == problems(Renamed("a", "b"), Renamed("a", "c"))
    assert ("target column b is mapped more than once",) == problems(Renamed("a", "b"), Added("b"))
    with pytest.raises(MappingError, match="more than one mapping"):
        Mappings((Mapping("Item"), Mapping("Item", table="items")))


def test_a_model_without_a_mapping_stays_as_it_is() -> None:
    """It needs none."""
    assert Mapping("User") == Mappings((Mapping("Item", table="items"),)).of("User")
    assert "items" == Mappings((Mapping("Item", table="items"),)).of("Item").table


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        ("integer", "integer", Fit.ALL),
        ("integer", "bigint", Fit.ALL),
        ("bigint", "integer", Fit.REFUSES),
        ("integer", "double precision", Fit.ALL),
        ("bigint", "double precision", Fit.CUTS),
        ("integer", "numeric(12,2)", Fit.REFUSES),
        ("numeric(12,2)", "numeric(65,30)", Fit.ALL),
        ("numeric(65,30)", "numeric(12,2)", Fit.CUTS),
        ("numeric(12,2)", "numeric(10,2)", Fit.REFUSES),
        ("numeric", "integer", Fit.CUTS),
        ("numeric(9,0)", "bigint", Fit.REFUSES),
        ("double precision", "real", Fit.CUTS),
        ("real", "double precision", Fit.ALL),
        ("double precision", "numeric", Fit.ALL),
        ("double precision", "integer", Fit.CUTS),
        ("timestamp(3) without time zone", "timestamp with time zone", Fit.ALL),
        ("timestamp(6) without time zone", "timestamp(3) without time zone", Fit.CUTS),
        ("timestamp without time zone", "date", Fit.CUTS),
        ("date", "timestamp with time zone", Fit.ALL),
        ("text", "character varying(4)", Fit.REFUSES),
        ("character varying(4)", "character varying(8)", Fit.ALL),
        ("character(5)", "text", Fit.ALL),
        ("uuid", "text", Fit.ALL),
        ("text", "uuid", Fit.REFUSES),
        ("text", '"Kind"', Fit.REFUSES),
        ('"Kind"', "people.kind", Fit.REFUSES),
        ("text", "bigint", Fit.REFUSES),
        ("text", "boolean", Fit.UNKNOWN),
        ("text", "jsonb", Fit.UNKNOWN),
        ("boolean", "integer", Fit.UNKNOWN),
        ("jsonb", "json", Fit.ALL),
        ("numeric(65,30)[]", "numeric(12,2)[]", Fit.CUTS),
        ("integer[]", "integer", Fit.UNKNOWN),
    ],
)
def test_each_pair_of_types_is_of_one_kind(own: str, other: str, expected: Fit) -> None:
    """What is lost in silence needs saying; what is refused, or fits, does not."""
    assert expected is fit(own, other)
    assert fit(own, other).needs_saying is (expected in (Fit.CUTS, Fit.UNKNOWN))


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        ("text", "uuid", True),
        ("uuid", "text", True),
        ("text", "bigint", True),
        ("integer", "bigint", True),
        ("integer", "character varying(9)", True),
        ("text", '"Kind"', True),
        ("integer", "numeric", True),
        ("integer", "numeric(9,2)", False),
        ("numeric(9,2)", "numeric(9,3)", False),
        ("timestamp(3) without time zone", "timestamp without time zone", True),
        ("timestamp without time zone", "timestamp with time zone", False),
        ("date", "timestamp without time zone", False),
        ("uuid", "bigint", False),
        ("character(5)", "text", False),
        ("boolean", "text", False),
    ],
)
def test_a_key_keeps_its_text(own: str, other: str, expected: bool) -> None:
    """Capture notes keys as texts: a type that spells the same value differently makes it another key."""
    assert expected is keeps_text(own, other)
