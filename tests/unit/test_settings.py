"""Settings from the environment."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

import workshop
from crossfade.errors import ConfigurationError
from crossfade.events import NullObserver
from crossfade.flags.choice import provider_from
from crossfade.flags.files import FileFlags
from crossfade.flags.unleash import UnleashFlags
from crossfade.mapping import NO_MAPPINGS
from crossfade.settings import Settings
from crossfade.stages import Topology

LEGACY = "postgresql://app:hunter2@db:5432/shop?schema=legacy"
UNLEASH = "https://unleash.example.com/api"
TARGET = "postgresql://app:hunter2@db:5432/shop?schema=target"


def problems(**environment: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({f"CROSSFADE_{name}": value for name, value in environment.items()})
    return caught.value.problems


def test_an_empty_environment_is_the_defaults() -> None:
    """A variable that is set to nothing counts as not set."""
    assert Settings.from_environment({"CROSSFADE_METRICS_PORT": "", "HOME": "/"}) == Settings()
    assert Settings().flags_dir == Path("flags")


def test_everything_is_read() -> None:
    """One variable for each setting."""
    settings = Settings.from_environment(
        {
            "CROSSFADE_LEGACY_DSN": LEGACY,
            "CROSSFADE_TARGET_DSN": TARGET,
            "CROSSFADE_TOPOLOGY": "separate",
            "CROSSFADE_FLAGS_DIR": "/srv/flags",
            "CROSSFADE_METRICS_PORT": "9464",
            "CROSSFADE_CACHE_DIR": "/var/cache/crossfade",
            "CROSSFADE_LOG_LEVEL": "DEBUG",
            "CROSSFADE_MAPPINGS": "workshop:MAPPINGS",
            "CROSSFADE_UNLEASH_URL": "https://unleash.example.com/api/",
            "CROSSFADE_UNLEASH_TOKEN": "default:staging.hunter2",
            "CROSSFADE_UNLEASH_APP_NAME": "shop",
            "CROSSFADE_UNLEASH_ADMIN_TOKEN": "*:*.hunter3",
            "CROSSFADE_UNLEASH_PROJECT": "money",
        }
    )
    assert settings.legacy_dsn is not None
    assert settings.target_dsn is not None

    assert (settings.legacy_dsn.schema, settings.target_dsn.schema) == ("legacy", "target")
    assert dataclasses.replace(settings, legacy_dsn=None, target_dsn=None) == Settings(
        flags_dir=Path("/srv/flags"),
        metrics_port=9464,
        cache_dir=Path("/var/cache/crossfade"),
        log_level="debug",
        mappings="workshop:MAPPINGS",
        unleash_url="https://unleash.example.com/api",
        unleash_token="default:staging.hunter2",
        unleash_environment="staging",
        unleash_app_name="shop",
        unleash_admin_token="*:*.hunter3",
        unleash_project="money",
    )


def test_no_password_is_shown() -> None:
    """Not by repr, and not by str."""
    settings = Settings.from_environment(
        {
            "CROSSFADE_LEGACY_DSN": LEGACY,
            "CROSSFADE_TARGET_DSN": TARGET,
            "CROSSFADE_UNLEASH_URL": UNLEASH,
            "CROSSFADE_UNLEASH_TOKEN": "default:staging.hunter2",
            "CROSSFADE_UNLEASH_ADMIN_TOKEN": "*:*.hunter2",
        }
    )

    assert "hunter2" not in f"{settings!r} {settings}"


def test_every_problem_is_listed_at_once() -> None:
    """Nobody should have to start five times to find five mistakes."""
    found = problems(
        LEGACY_DSN="mysql://app:hunter2@db/shop",
        TARGET_DSN="postgresql://app:hunter2@db",
        TOPOLOGY="both",
        METRICS_PORT="70000",
        LOG_LEVEL="loud",
    )

    assert [problem.split(" ")[0].rstrip(":") for problem in found] == [
        "CROSSFADE_LEGACY_DSN",
        "CROSSFADE_TARGET_DSN",
        "CROSSFADE_TOPOLOGY",
        "CROSSFADE_METRICS_PORT",
        "CROSSFADE_LOG_LEVEL",
    ]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize("port", ["-1", "80.5", "http", "٣"])
def test_a_port_is_a_small_number(port: str) -> None:
    """Digits only, 0 to 65535."""
    assert problems(METRICS_PORT=port) == (
        f"CROSSFADE_METRICS_PORT must be a port from 0 to 65535, not {port!r}",
    )


@pytest.mark.parametrize("given", ["LEGACY_DSN", "TARGET_DSN"])
def test_one_database_alone_is_refused(given: str) -> None:
    """Two stores need two databases."""
    [problem] = problems(**{given: LEGACY})

    assert "give both databases, or neither" in problem


def test_two_stores_must_not_be_one() -> None:
    """The same server, database and schema, however it is spelt."""
    [problem] = problems(
        LEGACY_DSN=LEGACY, TARGET_DSN=LEGACY.replace("postgresql", "postgres").replace("app", "ann")
    )

    assert "are the same store" in problem


def test_a_shared_topology_has_one_store() -> None:
    """The target is left out, or the same."""
    for target in ("", LEGACY):
        settings = Settings.from_environment(
            {"CROSSFADE_TOPOLOGY": "shared", "CROSSFADE_LEGACY_DSN": LEGACY, "CROSSFADE_TARGET_DSN": target}
        )
        assert settings.topology is Topology.SHARED
    [problem] = problems(TOPOLOGY="shared", LEGACY_DSN=LEGACY, TARGET_DSN=TARGET)

    assert "leave CROSSFADE_TARGET_DSN out" in problem


def test_mappings_are_imported_when_they_are_asked_for() -> None:
    """None unless they are named; whatever is wrong with the name is said."""
    assert NO_MAPPINGS == Settings().load_mappings()
    assert workshop.MAPPINGS == Settings(mappings="workshop:MAPPINGS").load_mappings()
    for place, words in {
        "no_such_module:M": "cannot be imported: ModuleNotFoundError",
        "workshop:NO_SUCH": "cannot be imported: AttributeError",
        "workshop:TABLES": "must be a crossfade.mapping.Mappings, not a dict",
    }.items():
        with pytest.raises(ConfigurationError, match=words):
            Settings(mappings=place).load_mappings()
    assert ("CROSSFADE_MAPPINGS must be like package.module:NAME, not 'workshop.MAPPINGS'",) == problems(
        MAPPINGS="workshop.MAPPINGS"
    )


@pytest.mark.parametrize(
    ("token", "given", "environment"),
    [
        ("default:staging.hunter2", "", "staging"),
        ("default:staging.hunter2", "staging", "staging"),
        ("default:prod.eu.hunter2", "prod.eu", "prod.eu"),
        ("hunter2", "staging", "staging"),
        ("hunter2", "", "development"),
        ("*:*.hunter2", "", "development"),
    ],
)
def test_a_token_names_its_environment(token: str, given: str, environment: str) -> None:
    """What is given counts, then what the token says, then what Unleash begins with."""
    settings = Settings.from_environment(
        {
            "CROSSFADE_UNLEASH_URL": UNLEASH,
            "CROSSFADE_UNLEASH_TOKEN": token,
            "CROSSFADE_UNLEASH_ENVIRONMENT": given,
        }
    )

    assert environment == settings.unleash_environment


def test_unleash_settings_that_contradict_each_other() -> None:
    """A token without a server, and a token of another environment."""
    token = "default:staging.hunter2"
    found = [
        problems(UNLEASH_TOKEN=token),
        problems(UNLEASH_URL=UNLEASH, UNLEASH_TOKEN=token, UNLEASH_ENVIRONMENT="production"),
    ]

    assert [
        ("CROSSFADE_UNLEASH_URL is not set, and a token for Unleash is",),
        ("CROSSFADE_UNLEASH_TOKEN is not a token of the environment 'production'",),
    ] == found


@pytest.mark.parametrize(
    "url",
    [
        "unleash.example.com/api",
        "ftp://unleash.example.com/api",
        "http://",
        "http://[::1",
        "https://app:hunter2@unleash.example.com/api",
        "https://unleash.example.com/api?token=hunter2",
        "https://unleash.example.com:port/api",
    ],
)
def test_a_server_is_named_by_a_plain_url(url: str) -> None:
    """A whole URL, and nothing secret in it."""
    (problem,) = problems(UNLEASH_URL=url, UNLEASH_TOKEN="default:staging.hunter3")

    assert problem.startswith("CROSSFADE_UNLEASH_URL must ")
    assert "hunter" not in problem


def test_the_provider_is_chosen_by_the_settings(tmp_path: Path) -> None:
    """Flag files, or the server that is named; making one opens nothing."""
    unleash = Settings.from_environment(
        {"CROSSFADE_UNLEASH_URL": "http://127.0.0.1:1", "CROSSFADE_UNLEASH_TOKEN": "default:staging.hunter2"}
    )

    assert isinstance(provider_from(Settings(flags_dir=tmp_path), ["Book"], NullObserver()), FileFlags)
    provider = provider_from(unleash, ["Book"], NullObserver())
    assert isinstance(provider, UnleashFlags)
    assert repr(provider) == "UnleashFlags(http://127.0.0.1:1/api, environment=staging)"
    with pytest.raises(ConfigurationError, match="CROSSFADE_UNLEASH_TOKEN is not set"):
        provider_from(dataclasses.replace(unleash, unleash_token=None), ["Book"], NullObserver())


def test_without_unleashs_client_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag files do without it."""
    monkeypatch.delitem(sys.modules, "crossfade.flags.unleash")
    monkeypatch.setitem(sys.modules, "crossfade.flags.unleash_sdk", None)
    settings = Settings(unleash_url=UNLEASH, unleash_token="default:development.hunter2")

    with pytest.raises(ConfigurationError, match=r"pip install 'crossfade\[unleash\]'"):
        provider_from(settings, ["Book"], NullObserver())
