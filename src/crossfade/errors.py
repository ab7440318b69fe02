"""Every error crossfade raises, grouped by who must act.

* `OperatorError`: the person who runs crossfade: configuration, flags, stages, stores, the engine.
* `QueryError`: the developer who wrote the call: the arguments are wrong, whatever the rows are.
* `DataError`: the application: the store refused *this* value. Both paths raise the same class for the same
  fault, named as Prisma Client Python names it, so that an `except` clause keeps its meaning.
* `FollowError`: nobody at once: the follower could not do its part. It is counted and never reaches a caller.

Fields come first and the message is made from them. The command line turns families into exit codes in `cli`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class CrossfadeError(Exception):
    """The root of every error that crossfade raises itself."""


# --- the operator must act ---------------------------------------------------------------------------------


class OperatorError(CrossfadeError):
    """Something outside the application's code is wrong; the message says what to do."""


class ConfigurationError(OperatorError):
    """Settings are missing or contradict each other; every problem is listed at once."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class DsnError(OperatorError):
    """A database URL cannot be understood or translated. The password never appears in the message."""


class StoreUnavailableError(OperatorError):
    """A database does not answer, or refuses the connection."""

    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        self.reason = reason
        super().__init__(f"cannot reach the database at {where}: {reason}")


class EmbeddedError(OperatorError):
    """An embedded server (PostgreSQL) could not be set up or started."""


class EngineError(OperatorError):
    """Prisma's engine, Node or npm is missing, or could not be installed or started."""


class SchemaError(OperatorError):
    """`schema.prisma` is not valid; the text is Prisma's own."""


class FlagError(OperatorError):
    """A flag file cannot be used. The last good value stays in force."""

    def __init__(self, source: str, problem: str) -> None:
        self.source = source
        self.problem = problem
        super().__init__(f"{source}: {problem}")


class FlagServiceError(OperatorError):
    """A flag service does not answer, or refuses what is asked of it. The message holds no token."""

    def __init__(self, where: str, problem: str) -> None:
        self.where = where
        self.problem = problem
        super().__init__(f"the flag service at {where}: {problem}")


class FlagDriftError(OperatorError):
    """Somebody has changed flags on the server since they were pushed or pulled; nothing was written."""

    def __init__(self, where: str, drifted: Mapping[str, str]) -> None:
        self.where = where
        self.drifted = dict(drifted)
        listed = "; ".join(f"{model} ({what})" for model, what in drifted.items())
        super().__init__(
            f"the flag service at {where} has been changed by somebody else since: {listed};"
            " nothing was pushed. Take that over with `crossfade flags pull`,"
            " or overwrite it with `crossfade flags push --ours`"
        )


class UnknownModelError(OperatorError):
    """No model of that name is in the schema."""

    def __init__(self, model: str, known: Sequence[str]) -> None:
        self.model = model
        self.known = tuple(known)
        super().__init__(f"unknown model {model!r}; the schema has {', '.join(sorted(known))}")


class UnknownStageError(OperatorError):
    """No stage of that name exists."""

    def __init__(self, stage: str, known: Sequence[str]) -> None:
        self.stage = stage
        self.known = tuple(known)
        super().__init__(f"unknown stage {stage!r}; stages are {', '.join(known)}")


class StageMoveError(OperatorError):
    """A stage move is not permitted, or a gate does not hold; nothing has moved."""

    def __init__(self, model: str, current: str, wanted: str, reason: str) -> None:
        self.model = model
        self.current = current
        self.wanted = wanted
        self.reason = reason
        super().__init__(f"{model} stays at {current}: it cannot move to {wanted} because {reason}")


class RequestError(OperatorError):
    """A stage cannot be asked for beside what is asked of other models; nothing was written."""

    def __init__(self, models: Sequence[str], wanted: str, reasons: Sequence[str]) -> None:
        self.models = tuple(models)
        self.wanted = wanted
        self.reasons = tuple(reasons)
        super().__init__(f"{', '.join(models)} cannot be asked for {wanted}: {'; and '.join(reasons)}")


class InstallError(OperatorError):
    """Crossfade's objects cannot be installed in a store, are missing there, or are of another version."""

    def __init__(self, where: str, problem: str) -> None:
        self.where = where
        self.problem = problem
        super().__init__(f"the store at {where}: {problem}")


class LockedOutError(InstallError):
    """A table stayed locked by others for the whole deadline. The step was not done; it can be tried again."""

    def __init__(self, where: str, table: str | None, holders: Sequence[str], deadline: float) -> None:
        self.table = table
        self.holders = tuple(holders)
        self.deadline = deadline
        by = f" by {', '.join(holders)}" if holders else ""
        super().__init__(
            where,
            f"{table or 'what had to be changed'} stayed locked for {deadline:g} s{by};"
            " let it finish or end it, then run this again",
        )


class UnsettledError(OperatorError):
    """Captured keys cannot be brought level, so the authority cannot be handed over; the problems are SQLSTATEs."""

    def __init__(self, models: Sequence[str], problems: Sequence[str]) -> None:
        self.models = tuple(models)
        self.problems = tuple(problems)
        super().__init__(
            f"rows of {', '.join(models)} cannot be brought level: {'; '.join(problems)};"
            " look at crossfade.change for their keys and correct them in either store"
        )


class MappingError(OperatorError):
    """A mapping contradicts itself or the tables, or loses what it does not declare; every problem is listed."""

    def __init__(self, model: str, *problems: str) -> None:
        self.model = model
        self.problems = problems
        super().__init__(f"the mapping of {model}: {'; '.join(problems)}")


class BackfillError(OperatorError):
    """Rows of a model cannot be copied. What has been copied stays, and the same command goes on from there."""

    def __init__(self, model: str, problem: str) -> None:
        self.model = model
        self.problem = problem
        super().__init__(f"the backfill of {model}: {problem}")


class VerifyError(OperatorError):
    """A model cannot be verified as asked; nothing was changed."""

    def __init__(self, model: str, problem: str) -> None:
        self.model = model
        self.problem = problem
        super().__init__(f"verify {model}: {problem}")


class BackupError(OperatorError):
    """A backup cannot be made, or is not what it should be."""

    def __init__(self, where: str, problem: str) -> None:
        self.where = where
        self.problem = problem
        super().__init__(f"the backup of {where}: {problem}")


# --- the caller must act -----------------------------------------------------------------------------------


class QueryError(CrossfadeError):
    """The arguments of a call cannot be used. `path` names the place, such as `where.user.is`."""

    def __init__(self, model: str, path: str, problem: str) -> None:
        self.model = model
        self.path = path
        self.problem = problem
        super().__init__(f"{model}: {path}: {problem}")


class UnsupportedQueryError(QueryError):
    """Prisma can do this and the SQLAlchemy path cannot yet; keep the model before `live` or rewrite the call."""


class MixedAuthorityError(CrossfadeError):
    """One write spans models whose writes belong to different sides; declare them as one cohort."""

    def __init__(self, models: Sequence[str]) -> None:
        self.models = tuple(models)
        super().__init__(
            f"one write spans {', '.join(models)}, which belong to different sides; give them one cohort"
        )


# --- the store refused the data ----------------------------------------------------------------------------


class DataError(CrossfadeError):
    """The store refused the operation. `code` is Prisma's error code, `meta` what Prisma says beside it."""

    default_code = ""

    def __init__(
        self, message: str, *, code: str | None = None, meta: Mapping[str, Any] | None = None
    ) -> None:
        self.code = self.default_code if code is None else code
        self.meta: dict[str, Any] = dict(meta or {})
        super().__init__(message)


class UniqueViolationError(DataError):
    """A unique constraint was violated; `meta["target"]` names the fields."""

    default_code = "P2002"


class ForeignKeyViolationError(DataError):
    """A foreign key points at nothing, or something still points here; `meta["field_name"]` says which."""

    default_code = "P2003"


class RecordNotFoundError(DataError):
    """A record that the operation requires does not exist."""

    default_code = "P2025"


class MissingRequiredValueError(DataError):
    """A required field got no value."""

    default_code = "P2012"


class FieldNotFoundError(DataError):
    """The schema has no such field, or its value has the wrong type for it."""

    default_code = "P2009"


class TableNotFoundError(DataError):
    """The table does not exist in the store."""

    default_code = "P2021"


class RawQueryError(DataError):
    """A raw statement failed; `meta["code"]` is the SQLSTATE."""

    default_code = "P2010"


class InputError(DataError):
    """The engine refused the combination of arguments."""

    default_code = "P2019"


class TransactionError(DataError):
    """A transaction is closed, expired or was never started."""

    default_code = "P2028"


class StoreFaultError(DataError):
    """The store could not do it, and not because of what was asked: it is full, read-only, too slow, denies a right."""


class ConnectionLostError(DataError):
    """The connection to the store, or to the engine, broke or could not be opened."""

    default_code = "P1017"


# --- the other side could not do its part --------------------------------------------------------------------


class FollowError(CrossfadeError):
    """The follower failed, was too slow, or was not asked. Counted; never raised into a caller."""


class LateWriteError(FollowError):
    """A store refused a follower's write because it has become the authority meanwhile; the write is of no use."""


# --- crossfade itself must act -------------------------------------------------------------------------------


class WrongAuthorityError(CrossfadeError):
    """A store refused an author's write because it is not the authority; nothing was written.

    The repository asks for the record again and writes to the right side. It reaches a caller only when no side took
    writes within the deadline.
    """
