"""The schema, read from what Prisma's own parser says of a `schema.prisma`."""

from __future__ import annotations

import pytest

from crossfade.engine.parser import get_dmmf
from crossfade.errors import UnknownModelError
from crossfade.schema import Default, FieldSpec, Mint, RelationSpec, Scalar, Schema

TEXT = """
datasource db {
  provider = "postgresql"
  url      = env("DATABASE_URL")
}

enum Colour {
  RED @map("red")
  BLUE
  @@map("colours")
}

model Box {
  id       String   @id @default(cuid()) @map("_id")
  serial   Int      @unique @default(autoincrement())
  count    Int      @default(3)
  counts   Int[]    @default([1, -2])
  large    BigInt   @default(9007199254740993)
  ratio    Float    @default(2)
  price    Decimal  @default(1.5)
  open     Boolean  @default(true)
  label    String   @default("x")
  token    String   @default(uuid())
  made     DateTime @default(now())
  since    DateTime @default("2020-01-01T00:00:00Z")
  touched  DateTime @updatedAt
  form     Json     @default("{}")
  stamp    Bytes?
  other    String   @default(dbgenerated("gen_random_uuid()")) @db.Uuid
  colour   Colour   @default(RED)
  colours  Colour[]
  parentId String?
  parent   Box?     @relation("nested", fields: [parentId], references: [id], onDelete: Cascade)
  children Box[]    @relation("nested")
  shelf    Shelf?   @relation(fields: [room, row], references: [room, row])
  room     Int?
  row      Int?
  tags     Tag[]

  @@unique([count, large])
  @@unique([open, label], name: "named", map: "in_database")
  @@map("boxes")
}

model Shelf {
  room  Int
  row   Int
  boxes Box[]

  @@id([room, row])
}

model Tag {
  name  String @id
  boxes Box[]
}
"""


@pytest.fixture(scope="module")
def schema() -> Schema:
    """The schema above."""
    return Schema.from_dmmf(get_dmmf(TEXT, source="schema.prisma"))


def test_scalar_fields(schema: Schema) -> None:
    """Names, columns, types, lists and optionality are those of the schema."""
    box = schema.model("Box")

    assert ("boxes", "box", ("id",)) == (box.table, box.attribute, box.primary_key)
    assert (
        FieldSpec(
            name="id",
            column="_id",
            scalar=Scalar.STRING,
            enum=None,
            is_list=False,
            is_required=True,
            is_unique=False,
            is_updated_at=False,
            default=Default(Mint.CUID),
        )
        == box.fields["id"]
    )
    assert (Scalar.BYTES, False) == (box.fields["stamp"].scalar, box.fields["stamp"].is_required)
    assert (Scalar.ENUM, "Colour", True) == (
        box.fields["colours"].scalar,
        box.fields["colours"].enum,
        box.fields["colours"].is_list,
    )
    assert ["touched"] == [field.name for field in box.fields.values() if field.is_updated_at]


@pytest.mark.parametrize(
    ("field", "default"),
    [
        ("serial", Default(Mint.AUTOINCREMENT)),
        ("count", Default(Mint.LITERAL, 3)),
        ("counts", Default(Mint.LITERAL, [1, -2])),
        ("large", Default(Mint.LITERAL, "9007199254740993")),
        ("ratio", Default(Mint.LITERAL, 2.0)),
        ("price", Default(Mint.LITERAL, 1.5)),
        ("open", Default(Mint.LITERAL, value=True)),
        ("label", Default(Mint.LITERAL, "x")),
        ("token", Default(Mint.UUID)),
        ("made", Default(Mint.NOW)),
        ("since", Default(Mint.LITERAL, "2020-01-01T00:00:00+00:00")),
        ("touched", None),
        ("form", Default(Mint.LITERAL, "{}")),
        ("other", Default(Mint.DBGENERATED)),
        ("colour", Default(Mint.LITERAL, "RED")),
        ("stamp", None),
    ],
)
def test_defaults(schema: Schema, field: str, default: Default | None) -> None:
    """Literals keep their type, an integer its integer; functions are named."""
    found = schema.model("Box").fields[field].default

    assert repr(default) == repr(found)


def test_unique_keys_have_the_names_of_where(schema: Schema) -> None:
    """Single and compound keys are found under the name that `where` has for them."""
    assert {
        "id": ("id",),
        "serial": ("serial",),
        "count_large": ("count", "large"),
        "named": ("open", "label"),
    } == dict(schema.model("Box").uniques)
    assert {"room_row": ("room", "row")} == dict(schema.model("Shelf").uniques)


def test_enums_map_their_values(schema: Schema) -> None:
    """An enum knows its own name and its values' names in the database."""
    colour = schema.enums["Colour"]

    assert ("colours", {"RED": "red", "BLUE": "BLUE"}) == (colour.db_name, dict(colour.values))


def test_relations_and_their_other_ends(schema: Schema) -> None:
    """The side with the foreign key is told from the other one, for a model that points at itself too."""
    box = schema.model("Box")

    assert (
        RelationSpec("parent", "nested", "Box", False, False, ("parentId",), ("id",), "Cascade")
        == (box.relations["parent"])
    )
    assert box.relations["children"] == schema.opposite("Box", box.relations["parent"])
    assert box.relations["parent"] == schema.opposite("Box", box.relations["children"])
    assert "boxes" == schema.opposite("Box", box.relations["tags"]).name
    assert ({"Shelf", "Tag"}, {"Shelf"}) == (schema.neighbours("Box"), schema.parents("Box"))


def test_parents_come_before_children(schema: Schema) -> None:
    """Foreign key order is what a copy needs."""
    names = [spec.name for spec in schema.in_foreign_key_order()]

    assert names.index("Shelf") < names.index("Box")
    assert {spec.name for spec in schema} == set(names)


CASCADES = """
datasource db {
  provider = "postgresql"
  url      = env("DATABASE_URL")
}

model House {
  id    Int    @id
  rooms Room[]
  keys  Key[]
  bills Bill[]
}

model Room {
  id      Int   @id
  houseId Int
  house   House @relation(fields: [houseId], references: [id], onDelete: Cascade)
  lamps   Lamp[]
}

model Lamp {
  id     Int   @id
  roomId Int?
  room   Room? @relation(fields: [roomId], references: [id])
  bulbs  Bulb[]
}

model Bulb {
  id     Int  @id
  lampId Int
  lamp   Lamp @relation(fields: [lampId], references: [id], onDelete: Cascade)
}

model Key {
  id      Int    @id
  houseId Int?
  house   House? @relation(fields: [houseId], references: [id], onDelete: SetNull)
}

model Bill {
  id      Int   @id
  houseId Int
  house   House @relation(fields: [houseId], references: [id])
}
"""


def test_what_a_delete_touches() -> None:
    """Cascades go on, a foreign key that is set to null ends there, and what restricts is not touched."""
    schema = Schema.from_dmmf(get_dmmf(CASCADES, source="schema.prisma"))

    assert {"Room", "Lamp", "Key"} == schema.touched_by_delete("House")
    assert {"Lamp"} == schema.touched_by_delete("Room")
    assert {"Bulb"} == schema.touched_by_delete("Lamp")
    assert set() == schema.touched_by_delete("Bill")


def test_an_unknown_model_is_named(schema: Schema) -> None:
    """The error lists what there is."""
    with pytest.raises(UnknownModelError, match="unknown model 'Bix'; the schema has Box, Shelf, Tag"):
        schema.model("Bix")
