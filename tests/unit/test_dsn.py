"""Database URLs are read from three spellings, written in each, and never show a password."""

from __future__ import annotations

import ssl
import traceback
from urllib.parse import parse_qs, urlsplit

import pytest

from crossfade.dsn import Dsn
from crossfade.errors import DsnError

FULL = (
    "postgresql://ann:p%40ss%2Fw%3Ard@db.example:6432/shop?schema=app&connection_limit=5&pool_timeout=2"
    "&connect_timeout=3&socket_timeout=7&application_name=web&statement_cache_size=50"
)


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_parse_reads_every_part() -> None:
    """User and password are decoded; parameters are kept by name."""
    dsn = Dsn.parse(FULL)

    assert ("ann", "p@ss/w:rd", "db.example", 6432, "shop", "app") == (
        dsn.user,
        dsn.password,
        dsn.host,
        dsn.port,
        dsn.database,
        dsn.schema,
    )
    assert () == dsn.ignored


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_all_spellings_of_the_scheme_are_the_same(scheme: str) -> None:
    """The driver in the scheme makes no difference, and the port has a default."""
    assert Dsn("h", 5432, "db", user="u", password="p") == Dsn.parse(f"{scheme}://u:p@h/db")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@/db?host=/run/Postgres&port=5433",
        "postgresql://u@%2Frun%2FPostgres:5433/db",
        "postgresql://u@localhost:5433/db?host=/run/Postgres",
    ],
)
def test_a_socket_directory_is_a_host(url: str) -> None:
    """A Unix socket reaches the driver, Prisma and libpq each in its own way."""
    dsn = Dsn.parse(url)

    assert ("/run/Postgres", 5433, True) == (dsn.host, dsn.port, dsn.is_socket)
    assert dsn.sqlalchemy_url().host is None
    assert ("/run/Postgres", 5433, False) == tuple(dsn.connect_args()[key] for key in ("host", "port", "ssl"))
    assert "postgresql://u@localhost:5433/db?host=/run/Postgres" == dsn.prisma_url()
    assert "postgresql://u@/db?host=/run/Postgres&port=5433" == dsn.libpq_url()


def test_an_ipv6_host_keeps_its_brackets() -> None:
    """Brackets belong to the URL and not to the address."""
    dsn = Dsn.parse("postgresql://u@[::1]:5433/db")

    assert "::1" == dsn.host
    assert "postgresql://u@[::1]:5433/db" == dsn.libpq_url()


def test_sqlalchemy_gets_nothing_it_does_not_know() -> None:
    """The SQLAlchemy URL has no parameters; they become arguments of the driver and of the pool."""
    dsn = Dsn.parse(FULL)

    assert (
        "postgresql+asyncpg://ann:p%40ss%2Fw%3Ard@db.example:6432/shop"
        == dsn.sqlalchemy_url().render_as_string(hide_password=False)
    )
    assert {
        "timeout": 3.0,
        "command_timeout": 7.0,
        "ssl": "prefer",
        "statement_cache_size": 50,
        "prepared_statement_cache_size": 50,
        "server_settings": {"application_name": "web", "search_path": '"app"'},
    } == dsn.connect_args()
    assert {"pool_size": 5, "max_overflow": 0, "pool_timeout": 2.0} == dsn.pool_args()
    assert (5, 2.0) == (dsn.pool_size(), dsn.pool_timeout())


def test_what_the_url_does_not_say_has_prismas_default_or_none() -> None:
    """Connecting takes five seconds at most, and the pool is left to the caller."""
    dsn = Dsn.parse("postgresql://u@h/db")

    assert {"timeout": 5.0, "ssl": "prefer", "server_settings": {}} == dsn.connect_args()
    assert (None, None, {}) == (dsn.pool_size(), dsn.pool_timeout(), dsn.pool_args())


def test_zero_seconds_is_no_limit() -> None:
    """Prisma's 0 becomes the None of asyncpg and of SQLAlchemy's pool."""
    dsn = Dsn.parse("postgresql://u@h/db?connect_timeout=0&pool_timeout=0&socket_timeout=0")

    assert dsn.connect_args()["timeout"] is None
    assert "command_timeout" not in dsn.connect_args()
    assert {"pool_timeout": None} == dsn.pool_args()


def test_asyncpg_gets_address_and_settings_in_one() -> None:
    """The arguments for a direct connection have no SQLAlchemy-only names."""
    arguments = Dsn.parse(FULL).asyncpg_kwargs()

    assert ("db.example", 6432, "ann", "p@ss/w:rd", "shop") == tuple(
        arguments[name] for name in ("host", "port", "user", "password", "database")
    )
    assert "prepared_statement_cache_size" not in arguments


def test_behind_pgbouncer_statements_are_not_cached() -> None:
    """Statements have unique names, and the schema is set by a statement instead of at start-up."""
    dsn = Dsn.parse("postgresql://u@h/db?pgbouncer=true&schema=app&statement_cache_size=9")
    arguments = dsn.connect_args()

    assert (0, 0) == (arguments["statement_cache_size"], arguments["prepared_statement_cache_size"])
    assert arguments["prepared_statement_name_func"]() != arguments["prepared_statement_name_func"]()
    assert {} == arguments["server_settings"]
    assert 'SET search_path = "app"' == dsn.setup_statement()
    assert Dsn.parse("postgresql://u@h/db?schema=app").setup_statement() is None


def test_a_schema_name_is_quoted() -> None:
    """Capitals, blanks and quotes in a schema's name survive, for asyncpg and for libpq."""
    dsn = Dsn.parse("postgresql://u@h/db?schema=My%20%22App%22&options=-c%20a.b%3Dc")

    assert '"My ""App"""' == dsn.connect_args()["server_settings"]["search_path"]
    assert '-c a.b=c -c search_path="My\\ ""App"""' == query_of(dsn.libpq_url())["options"]


@pytest.mark.parametrize(
    ("params", "prisma", "libpq"),
    [
        ("sslmode=require", "sslmode=require&sslaccept=accept_invalid_certs", "sslmode=require"),
        ("ssl=true", "sslmode=require&sslaccept=accept_invalid_certs", "sslmode=require"),
        ("sslmode=disable", "sslmode=disable", "sslmode=disable"),
        ("sslmode=allow", "sslmode=prefer&sslaccept=accept_invalid_certs", "sslmode=prefer"),
        (
            "sslmode=require&sslaccept=strict&sslcert=/ca.pem",
            "sslmode=require&sslaccept=strict&sslcert=/ca.pem",
            "sslmode=verify-full&sslrootcert=/ca.pem",
        ),
        (
            "sslmode=require&sslaccept=accept_invalid_certs&sslcert=/ca.pem",
            "sslmode=require&sslaccept=accept_invalid_certs&sslcert=/ca.pem",
            "sslmode=require",
        ),
        (
            "sslmode=verify-full&sslrootcert=/ca.pem",
            "sslmode=require&sslaccept=strict&sslcert=/ca.pem",
            "sslmode=verify-full&sslrootcert=/ca.pem",
        ),
        (
            "sslmode=require&sslrootcert=/ca.pem",
            "sslmode=require&sslaccept=strict&sslcert=/ca.pem",
            "sslmode=verify-ca&sslrootcert=/ca.pem",
        ),
        ("sslaccept=strict", "sslmode=require&sslaccept=strict", "sslmode=verify-full&sslrootcert=system"),
    ],
)
def test_tls_is_translated_between_prisma_and_libpq(params: str, prisma: str, libpq: str) -> None:
    """Each program is asked for the same checks in its own words."""
    dsn = Dsn.parse(f"postgresql://u@h/db?{params}")

    assert f"postgresql://u@h:5432/db?{prisma}" == dsn.prisma_url()
    assert f"postgresql://u@h:5432/db?{libpq}" == dsn.libpq_url()


@pytest.mark.parametrize(
    ("params", "mode", "checks_host"),
    [
        ("sslmode=require", ssl.CERT_NONE, False),
        ("sslmode=verify-ca", ssl.CERT_REQUIRED, False),
        ("sslmode=verify-full", ssl.CERT_REQUIRED, True),
        ("sslmode=require&sslaccept=strict", ssl.CERT_REQUIRED, True),
    ],
)
def test_asyncpg_checks_what_the_url_asks_for(params: str, mode: ssl.VerifyMode, checks_host: bool) -> None:
    """`require` encrypts without trust, as in Prisma; the strict modes verify."""
    context = Dsn.parse(f"postgresql://u@h/db?{params}").connect_args()["ssl"]

    assert (mode, checks_host) == (context.verify_mode, context.check_hostname)


def test_a_certificate_that_cannot_be_used_is_named() -> None:
    """The message has the file, and says what to do about a PKCS#12 identity."""
    with pytest.raises(DsnError, match=r"/no/ca\.pem"):
        Dsn.parse("postgresql://u@h/db?sslmode=verify-full&sslrootcert=/no/ca.pem").connect_args()
    with pytest.raises(DsnError, match=r"/no/cert\.pem"):
        Dsn.parse("postgresql://u@h/db?sslmode=require&sslcert=/no/cert.pem&sslkey=/no/k.pem").connect_args()
    identity = Dsn.parse("postgresql://u@h/db?sslmode=require&sslidentity=/c.p12&sslpassword=hush")
    with pytest.raises(DsnError, match="sslcert and sslkey") as caught:
        identity.connect_args()
    assert "hush" not in str(caught.value)
    with pytest.raises(DsnError, match="sslidentity"):
        Dsn.parse("postgresql://u@h/db?sslcert=/c.pem&sslkey=/k.pem").prisma_url()
    assert "hush" == query_of(identity.prisma_url())["sslpassword"]


def test_prisma_gets_back_what_it_said() -> None:
    """A Prisma URL survives the way through, parameter by parameter."""
    url = Dsn.parse(FULL).prisma_url()

    assert query_of(FULL) == query_of(url)
    assert "postgresql://ann:p%40ss%2Fw%3Ard@db.example:6432/shop" == url.partition("?")[0]
    assert Dsn.parse(FULL) == Dsn.parse(url)


def test_libpq_keeps_its_own_parameters_and_may_go_without_the_password() -> None:
    """What only psql understands reaches psql; Prisma's pool settings do not."""
    dsn = Dsn.parse("postgresql://u:secret@h/db?keepalives=1&connection_limit=3&connect_timeout=4")

    assert "postgresql://u:secret@h:5432/db?keepalives=1&connect_timeout=4" == dsn.libpq_url()
    assert "postgresql://u@h:5432/db?keepalives=1&connect_timeout=4" == dsn.libpq_url(with_password=False)


def test_unknown_parameters_are_listed() -> None:
    """Nothing is passed on that nobody understands, and the caller can say so."""
    dsn = Dsn.parse("postgresql://u@h/db?colour=blue&schema=app")

    assert ("colour",) == dsn.ignored
    assert "colour" not in dsn.prisma_url() + dsn.libpq_url() + str(dsn.connect_args())


def test_replace_changes_database_or_schema_only() -> None:
    """Everything else stays."""
    dsn = Dsn.parse(FULL)
    changed = dsn.replace(database="other", schema="x")

    assert ("other", "x", dsn.password, dsn.params) == (
        changed.database,
        changed.schema,
        changed.password,
        changed.params,
    )
    assert dsn == dsn.replace()


def test_no_form_for_people_holds_a_secret() -> None:
    """`repr`, `str`, `redacted` and formatting hide the password and the certificate's password."""
    dsn = Dsn.parse("postgresql://u:s3cret@h/db?sslidentity=/c.p12&sslpassword=hush&schema=app")
    shown = f"{dsn} {dsn!r} {dsn.redacted()} {[dsn]} {dsn.where}"

    assert "s3cret" not in shown
    assert "hush" not in shown
    assert "postgresql://u:***@h:5432/db?schema=app&sslidentity=/c.p12&sslpassword=***" == dsn.redacted()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://u:s3cret@h/db", "starts with postgresql://"),
        ("u:s3cret@h/db", "starts with postgresql://"),
        ("postgresql://u:s3cret@h", "must end in /NAME"),
        ("postgresql://u:s3cret@h/", "must end in /NAME"),
        ("postgresql://u:s3cret@h/a/b", "must end in /NAME"),
        ("postgresql://u:s3cret@h:54x2/db", "valid host and port"),
        ("postgresql://u:s3cret@h:99999/db", "valid host and port"),
        ("postgresql://u:s3cret@[h/db", "valid host and port"),
        ("postgresql://u:s3cret@/db", "names no host"),
        ("postgresql://u:s3cret@a,b/db", "several hosts"),
        ("postgresql://u:s3cret@a:1,b:2/db", "several hosts"),
        # Characters of the password that were not encoded.
        ("postgresql://u:s3cret/x@h/db", "percent-encode"),
        ("postgresql://u:12/s3cret@h/db", "percent-encode"),
        ("postgresql://u:12/x?s3cret@h/db", "percent-encode"),
        ("postgresql://u:s3cret?x@h/db", "percent-encode"),
        ("postgresql://u:s3cret#x@h/db", "percent-encode"),
        ("postgresql://u:s3cret[x@h/db", "percent-encode"),
        ("postgresql://u:s3cret@h/db?sslmode=maybe", "sslmode in the database URL must be one of disable"),
        ("postgresql://u:s3cret@h/db?sslaccept=maybe", "sslaccept"),
        ("postgresql://u:s3cret@h/db?pgbouncer=maybe", "pgbouncer"),
        ("postgresql://u:s3cret@h/db?connection_limit=many", "connection_limit .* whole number"),
        ("postgresql://u:s3cret@h/db?connection_limit=0", "at least 1"),
        ("postgresql://u:s3cret@h/db?pool_timeout=-1", "pool_timeout .* whole number"),
    ],
)
def test_a_bad_url_is_refused_in_one_line_without_the_password(url: str, problem: str) -> None:
    """The message says what is wrong; neither it nor the traceback quotes the URL."""
    with pytest.raises(DsnError, match=problem) as caught:
        Dsn.parse(url)

    told = "".join(traceback.format_exception_only(caught.value))
    assert "s3cret" not in told
    assert 1 == len(told.splitlines())
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
