"""How a fence's refusal is found in what an engine says."""

from __future__ import annotations

import pytest

from crossfade.errors import LateWriteError, WrongAuthorityError
from crossfade.paths.prisma_faults import of_fence

_QUERY = "Error occurred:\nConnectorError(ConnectorError {{ user_facing_error: None, kind: {} }})"
NOW = _QUERY.format(
    r'QueryError(PostgresError { code: "XF001", message: "no \"writes\" here", severity: "ERROR" })'
)
BEFORE = _QUERY.format(
    'QueryError(Error { kind: Db, cause: Some(DbError { severity: "ERROR", code: SqlState(Other("XF002")),'
    ' message: "too late", detail: None }) })'
)
OF_A_VALUE = _QUERY.format(
    r'QueryError(PostgresError { code: "22P02", message: "invalid: \"code: \"XF001\"\"" })'
)


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [(NOW, WrongAuthorityError, 'no "writes" here'), (BEFORE, LateWriteError, "too late")],
)
def test_a_refusal_is_recognised(said: str, kind: type[Exception], told: str) -> None:
    """Its SQLSTATE gives the class and its words the message, in the form of any engine."""
    error = of_fence(said, {})

    assert kind is type(error)
    assert told == str(error)


def test_the_refusal_of_a_raw_statement() -> None:
    """Its SQLSTATE is told beside the message."""
    error = of_fence("Raw query failed", {"code": "XF001", "message": "ERROR: not here\nHINT: there"})

    assert WrongAuthorityError is type(error)
    assert "not here" == str(error)


def test_a_value_is_no_refusal() -> None:
    """What a caller sent is quoted, and so never taken for one."""
    assert of_fence(OF_A_VALUE.replace('"XF001"', r"\"XF001\""), {}) is None
