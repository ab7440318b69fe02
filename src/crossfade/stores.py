"""Whether a database can be worked with, said in words for the person who gave its URL."""

from __future__ import annotations

import errno
import socket
import ssl

import asyncpg

from crossfade.dsn import Dsn
from crossfade.errors import StoreUnavailableError

OLDEST_SUPPORTED = 13
"""The oldest major version of PostgreSQL that is worked with."""


async def check_reachable(dsn: Dsn, what: str) -> None:
    """Connect once, and return if the database answers and is recent enough.

    Args:
        dsn: the database.
        what: what the database is to the reader, such as "the legacy store".

    Raises:
        StoreUnavailableError: it cannot be used; the reason is one plain line.
        DsnError: a certificate that the URL names cannot be used.
    """
    arguments = dsn.asyncpg_kwargs()
    try:
        connection = await asyncpg.connect(**arguments)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StoreUnavailableError(
            f"{dsn.where} ({what})", _reason(error, dsn, arguments["timeout"])
        ) from error
    try:
        version = connection.get_server_version()
    finally:
        await connection.close()
    if version.major < OLDEST_SUPPORTED:
        raise StoreUnavailableError(
            f"{dsn.where} ({what})",
            f"it is PostgreSQL {version.major}, and {OLDEST_SUPPORTED} is the oldest supported",
        )


def _reason(error: Exception, dsn: Dsn, timeout: float | None) -> str:
    match error:
        case asyncpg.InvalidPasswordError():
            return f"the password for user {dsn.user!r} is wrong"
        case asyncpg.InvalidCatalogNameError():
            return f"there is no database {dsn.database!r}"
        case asyncpg.InvalidAuthorizationSpecificationError():
            return f"the server does not let user {dsn.user!r} in: {error}"
        case asyncpg.TooManyConnectionsError():
            return "all its connections are taken"
        case TimeoutError():
            return f"no answer within {timeout:g} s" if timeout else "no answer"
        case socket.gaierror():
            return "the host name is not known"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason}"
        case FileNotFoundError() if dsn.is_socket:
            return "no server has its socket there"
        case OSError() if error.errno == errno.ECONNREFUSED or f"[Errno {errno.ECONNREFUSED}]" in str(error):
            return "the connection was refused; is the server running there?"
        case ConnectionError() if "SSL" in str(error):
            return "the server offers no TLS, and the URL asks for it (sslmode)"
        case _:
            return str(error) or type(error).__name__
