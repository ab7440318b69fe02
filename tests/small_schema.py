"""A schema of two models for tests that need no store: written as the DMMF that Prisma's parser would give."""

from typing import Any

from crossfade.schema import Schema


def scalar(name: str, kind: str = "String", **extra: Any) -> dict[str, Any]:
    """One scalar field of a DMMF."""
    base = {
        "name": name,
        "kind": "scalar",
        "type": kind,
        "isList": False,
        "isRequired": True,
        "isUnique": False,
        "isId": False,
        "isUpdatedAt": False,
        "hasDefaultValue": False,
    }
    return base | extra


def relation(name: str, model: str, relation_name: str, **extra: Any) -> dict[str, Any]:
    """One relation field of a DMMF."""
    base = {
        "name": name,
        "kind": "object",
        "type": model,
        "relationName": relation_name,
        "isList": False,
        "isRequired": False,
        "relationFromFields": [],
        "relationToFields": [],
    }
    return base | extra


def cuid_id() -> dict[str, Any]:
    """An `id String @id @default(cuid())`."""
    return scalar("id", isId=True, hasDefaultValue=True, default={"name": "cuid", "args": []})


AUTHOR = {
    "name": "Author",
    "dbName": None,
    "fields": [
        cuid_id(),
        scalar("email", isUnique=True),
        scalar("name", isRequired=False),
        scalar("score", "Int", hasDefaultValue=True, default=0),
        scalar("created_at", "DateTime", hasDefaultValue=True, default={"name": "now", "args": []}),
        scalar("updated_at", "DateTime", isUpdatedAt=True),
        relation("books", "Book", "Books", isList=True),
    ],
    "primaryKey": None,
    "uniqueIndexes": [],
}

BOOK = {
    "name": "Book",
    "dbName": "books",
    "fields": [
        scalar("id", "Int", isId=True, hasDefaultValue=True, default={"name": "autoincrement", "args": []}),
        scalar("title"),
        scalar("author_id"),
        relation(
            "author",
            "Author",
            "Books",
            relationFromFields=["author_id"],
            relationToFields=["id"],
            isRequired=True,
        ),
    ],
    "primaryKey": None,
    "uniqueIndexes": [{"name": None, "fields": ["author_id", "title"]}],
}

SMALL = Schema.from_dmmf({"datamodel": {"enums": [], "models": [AUTHOR, BOOK]}})
