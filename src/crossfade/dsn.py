"""Database URLs: one value, read from Prisma's, SQLAlchemy's or libpq's spelling, and written in each of them.

Prisma's parameters mean nothing to asyncpg, which would send them to the server as settings, and libpq's mean something
else to Prisma. So nothing is passed on: every parameter is understood here, or listed in `Dsn.ignored`.

Rules:

* No message, `repr` or `str` holds a password. A URL that cannot be split may have the password anywhere (an unencoded
  `/` or `?` moves the boundaries), so errors about such URLs quote nothing of them.
* Reading a URL does no I/O; certificate files are opened when `connect_args` is asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit
from uuid import uuid4

from sqlalchemy import URL

from crossfade.errors import DsnError
from crossfade.tls import Tls

_DIALECTS = frozenset({"postgresql", "postgres", "postgresql+asyncpg"})
_DEFAULT_PORT = 5432
_CONNECT_TIMEOUT = 5.0
"""Seconds: Prisma's default; asyncpg's own is a minute."""

# Other spellings of the same thing, from URLs that were made for asyncpg.
_ALIASES = {
    "ssl": "sslmode",
    "timeout": "connect_timeout",
    "command_timeout": "socket_timeout",
    "prepared_statement_cache_size": "statement_cache_size",
}
_NUMBERS = frozenset(
    {"connection_limit", "pool_timeout", "connect_timeout", "socket_timeout", "statement_cache_size"}
)
_CHOICES: Mapping[str, Mapping[str, str]] = {
    "pgbouncer": {"true": "true", "false": "false"},
    "sslaccept": {"strict": "strict", "accept_invalid_certs": "accept_invalid_certs"},
    "sslmode": {
        "disable": "disable",
        "allow": "prefer",  # they differ only in what is tried first
        "prefer": "prefer",
        "require": "require",
        "verify-ca": "verify-ca",
        "verify-full": "verify-full",
        "true": "require",
        "false": "disable",
    },
}
_PRISMA_PARAMS = _NUMBERS | {"pgbouncer", "application_name", "options"}
_LIBPQ_PARAMS = frozenset(
    {
        "application_name", "channel_binding", "connect_timeout", "fallback_application_name", "gssencmode",
        "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "options", "passfile",
        "require_auth", "sslcrl", "sslsni", "ssl_max_protocol_version", "ssl_min_protocol_version",
        "target_session_attrs", "tcp_user_timeout",
    }
)  # fmt: skip
_CERTIFICATES = frozenset({"sslcert", "sslkey", "sslrootcert", "sslidentity", "sslpassword"})
_ADDRESS = frozenset({"schema", "host", "port"})
_SEVERAL_HOSTS = "the database URL names several hosts; give one"
_TEXTS = _LIBPQ_PARAMS | _CERTIFICATES | _ADDRESS


@dataclass(frozen=True, slots=True, repr=False)
class Dsn:
    """Where a database is and how to connect to it. `host` is a directory for a Unix socket."""

    host: str
    port: int
    database: str
    user: str | None = None
    password: str | None = None
    schema: str | None = None
    params: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The other parameters that are understood, by their Prisma or libpq name."""
    ignored: tuple[str, ...] = ()
    """Names of parameters in the URL that nothing here understands, for the caller to mention."""

    @classmethod
    def parse(cls, url: str) -> Dsn:
        """Read a URL in any of the three spellings.

        Raises:
            DsnError: it is not a PostgreSQL URL, or a part of it has no meaning.
        """
        scheme, separator, _ = url.partition("://")
        if not separator or scheme not in _DIALECTS:
            raise DsnError("a database URL starts with postgresql://, postgres:// or postgresql+asyncpg://")
        try:
            parts = urlsplit(url)
            host, port = _host(parts), parts.port
        except ValueError:
            # The cause would quote the URL.
            raise DsnError(_hint("the database URL has no valid host and port")) from None
        if "#" in url or ("@" in url and "@" not in parts.netloc) or "@" in parts.path:
            raise DsnError(_hint("the database URL cannot be split into user, password, host and database"))
        params, ignored = _read_params(dict(parse_qsl(parts.query, keep_blank_values=True)))
        database = unquote(parts.path.removeprefix("/"))
        if not database or "/" in parts.path.removeprefix("/"):
            raise DsnError("the database URL must end in /NAME, the database to use")
        host = params.pop("host", host)
        if not host:
            raise DsnError("the database URL names no host; for a Unix socket add ?host=/its/directory")
        if "," in host:
            raise DsnError(_SEVERAL_HOSTS)
        port_text = params.pop("port", None)
        return cls(
            host=host,
            port=_number("port", port_text) if port_text else (port or _DEFAULT_PORT),
            database=database,
            user=unquote(parts.username) if parts.username else None,
            password=None if parts.password is None else unquote(parts.password),
            schema=params.pop("schema", None) or None,
            params=params,
            ignored=ignored,
        )

    @property
    def where(self) -> str:
        """Host, port and database, for messages."""
        return f"{self.host}:{self.port}/{self.database}"

    @property
    def is_socket(self) -> bool:
        """Whether the server is reached by a Unix socket."""
        return self.host.startswith("/")

    @property
    def is_pgbouncer(self) -> bool:
        """Whether a transaction pooler stands between, which named prepared statements do not survive."""
        return self.params.get("pgbouncer") == "true"

    def replace(self, *, database: str | None = None, schema: str | None = None) -> Dsn:
        """The same server and settings with another database or schema; None keeps what there is."""
        return dataclasses.replace(
            self, database=database or self.database, schema=self.schema if schema is None else schema
        )

    # --- for SQLAlchemy and asyncpg --------------------------------------------------------------------------

    def sqlalchemy_url(self) -> URL:
        """The URL for `create_async_engine`; everything that is not in it is in `connect_args`."""
        address = {} if self.is_socket else {"host": self.host, "port": self.port}
        return URL.create(
            "postgresql+asyncpg",
            username=self.user,
            password=self.password,
            database=self.database,
            **address,  # type: ignore[arg-type]  # str and int by key
        )

    def connect_args(self) -> dict[str, Any]:
        """The `connect_args` for `create_async_engine`.

        Raises:
            DsnError: a certificate cannot be used.
        """
        arguments = self._driver_arguments()
        if self.is_socket:
            arguments |= {"host": self.host, "port": self.port}
        if "statement_cache_size" in arguments:
            arguments["prepared_statement_cache_size"] = arguments["statement_cache_size"]
        if self.is_pgbouncer:
            # Names must not repeat, because another client may have been given this server connection before.
            arguments["prepared_statement_name_func"] = lambda: f"__crossfade_{uuid4()}__"
        return arguments

    def asyncpg_kwargs(self) -> dict[str, Any]:
        """The arguments for `asyncpg.connect` or `asyncpg.create_pool`.

        Raises:
            DsnError: a certificate cannot be used.
        """
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "database": self.database,
            **self._driver_arguments(),
        }

    def setup_statement(self) -> str | None:
        """A statement to run on every new connection, or None.

        Poolers refuse `search_path` as a start-up parameter, so behind one it takes a statement.
        """
        if self.schema is None or not self.is_pgbouncer:
            return None
        return f"SET search_path = {_quoted(self.schema)}"

    def pool_args(self) -> dict[str, Any]:
        """The pool arguments for `create_async_engine` that mean what `connection_limit` and `pool_timeout` say."""
        arguments: dict[str, Any] = {}
        size, timeout = self.pool_size(), self.pool_timeout()
        if size is not None:
            arguments |= {"pool_size": size, "max_overflow": 0}
        if timeout is not None:
            # To Prisma 0 is "wait for ever", which SQLAlchemy calls None.
            arguments["pool_timeout"] = timeout or None
        return arguments

    def pool_size(self) -> int | None:
        """How many connections a pool may hold (`connection_limit`), or None if the URL does not say."""
        return self._integer("connection_limit")

    def pool_timeout(self) -> float | None:
        """Seconds to wait for a connection of the pool, 0 for ever, or None if the URL does not say."""
        seconds = self._integer("pool_timeout")
        return None if seconds is None else float(seconds)

    def _driver_arguments(self) -> dict[str, Any]:
        settings = {
            name: self.params[name] for name in ("application_name", "options") if name in self.params
        }
        if self.schema is not None and not self.is_pgbouncer:
            settings["search_path"] = _quoted(self.schema)
        connect_timeout = self._integer("connect_timeout")
        arguments: dict[str, Any] = {
            # 0 means no limit.
            "timeout": _CONNECT_TIMEOUT if connect_timeout is None else float(connect_timeout) or None,
            "ssl": False if self.is_socket else Tls.from_params(self.params).for_asyncpg(),
            "server_settings": settings,
        }
        if socket_timeout := self._integer("socket_timeout"):
            arguments["command_timeout"] = float(socket_timeout)
        cache_size = 0 if self.is_pgbouncer else self._integer("statement_cache_size")
        if cache_size is not None:
            arguments["statement_cache_size"] = cache_size
        return arguments

    # --- for other programs ----------------------------------------------------------------------------------

    def prisma_url(self) -> str:
        """The URL for Prisma's engine.

        Raises:
            DsnError: the URL has a client certificate in PEM form only, which Prisma's engine cannot use.
        """
        query = {name: value for name, value in self.params.items() if name in _PRISMA_PARAMS}
        if self.schema is not None:
            query["schema"] = self.schema
        if self._speaks_of_tls():
            query |= Tls.from_params(self.params).for_prisma()
        if self.is_socket:
            return self._url({**query, "host": self.host}, self._secret(), f"localhost:{self.port}")
        return self._url(query, self._secret(), self._address())

    def libpq_url(self, *, with_password: bool = True) -> str:
        """The URL for psql, pg_dump and the like.

        Args:
            with_password: False leaves it out: arguments of a process are visible to every user, so hand the
                password over in `PGPASSWORD`.
        """
        query = {name: value for name, value in self.params.items() if name in _LIBPQ_PARAMS}
        if self.schema is not None:
            # A backslash keeps the blanks and backslashes of a name in one option.
            path = _quoted(self.schema).replace("\\", "\\\\").replace(" ", "\\ ")
            query["options"] = f"{query.get('options', '')} -c search_path={path}".strip()
        if self._speaks_of_tls():
            query |= Tls.from_params(self.params).for_libpq()
        return self._libpq_style(query, self._secret() if with_password else "")

    def redacted(self) -> str:
        """The URL without its secrets, for people to read."""
        query = {} if self.schema is None else {"schema": self.schema}
        query |= {name: "***" if name == "sslpassword" else value for name, value in self.params.items()}
        return self._libpq_style(query, "" if self.password is None else ":***")

    def __str__(self) -> str:
        return self.redacted()

    def __repr__(self) -> str:
        return f"Dsn({self.redacted()!r})"

    def _speaks_of_tls(self) -> bool:
        return any(name.startswith("ssl") for name in self.params)

    def _secret(self) -> str:
        return "" if self.password is None else ":" + quote(self.password, safe="")

    def _address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def _libpq_style(self, query: Mapping[str, str], secret: str) -> str:
        if self.is_socket:
            return self._url({**query, "host": self.host, "port": str(self.port)}, secret, "")
        return self._url(query, secret, self._address())

    def _url(self, query: Mapping[str, str], secret: str, address: str) -> str:
        credentials = quote(self.user or "", safe="") + secret
        url = (
            f"postgresql://{credentials}{'@' if credentials else ''}{address}/{quote(self.database, safe='')}"
        )
        return f"{url}?{urlencode(query, quote_via=quote, safe='/*')}" if query else url

    def _integer(self, name: str) -> int | None:
        return int(self.params[name]) if name in self.params else None


def _read_params(given: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Check and normalise what is understood; return it and the names of the rest."""
    params: dict[str, str] = {}
    ignored: list[str] = []
    for written, value in given.items():
        name = _ALIASES.get(written, written)
        if name in _NUMBERS:
            params[name] = str(_number(name, value))
        elif name in _CHOICES:
            choices = _CHOICES[name]
            if value not in choices:
                raise DsnError(f"{written} in the database URL must be one of {', '.join(choices)}")
            params[name] = choices[value]
        elif name in _TEXTS:
            params[name] = value
        else:
            ignored.append(written)
    if params.get("connection_limit") == "0":
        raise DsnError("connection_limit in the database URL must be at least 1")
    return params, tuple(ignored)


def _host(parts: SplitResult) -> str:
    address = parts.netloc.rpartition("@")[2]
    if "," in address:
        raise DsnError(_SEVERAL_HOSTS)
    # libpq's way to write a socket's directory; `hostname` would lower its case.
    if address.lower().startswith("%2f"):
        return unquote(address.partition(":")[0])
    return parts.hostname or ""


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise DsnError(f"{name} in the database URL must be a whole number")
    return int(text)


def _hint(problem: str) -> str:
    return f"{problem}; percent-encode special characters in the user and password (@ is %40, / is %2F, # is %23)"


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
