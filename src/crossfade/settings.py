"""`Settings`: what the environment says, read once and checked as a whole."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from crossfade.dsn import Dsn
from crossfade.errors import ConfigurationError, CrossfadeError, DsnError
from crossfade.mapping import NO_MAPPINGS, Mappings
from crossfade.stages import Topology

DEFAULT_FLAGS_DIR = Path("flags")
DEFAULT_ENVIRONMENT = "development"
DEFAULT_APP_NAME = "crossfade"
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Settings:
    """How this process is set up. Without a DSN of its own a store is an embedded server.

    A shared topology has one store: `target_dsn` is then None or the same as `legacy_dsn`. `metrics_port` None serves
    no metrics, 0 takes a free port. `cache_dir` None is the user's cache directory. `mappings` names where the target
    schema's differences are declared: `package.module:NAME`. With an `unleash_url`, the URL of an Unleash server's API,
    flags come from there and not from `flags_dir`. Processes follow them with `unleash_token`, a backend token of the
    environment; `crossfade flags` needs an admin token.
    """

    legacy_dsn: Dsn | None = None
    target_dsn: Dsn | None = None
    topology: Topology = Topology.SEPARATE
    flags_dir: Path = DEFAULT_FLAGS_DIR
    metrics_port: int | None = None
    cache_dir: Path | None = None
    log_level: str = "info"
    mappings: str | None = None
    unleash_url: str | None = None
    unleash_token: str | None = field(default=None, repr=False)
    unleash_environment: str = DEFAULT_ENVIRONMENT
    unleash_app_name: str = DEFAULT_APP_NAME
    unleash_admin_token: str | None = field(default=None, repr=False)
    unleash_project: str = "default"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read every `CROSSFADE_*` variable that is set and not empty.

        Raises:
            ConfigurationError: it lists everything that is wrong, not just the first.
        """
        reader = _Reader(os.environ if environment is None else environment)
        token = reader.text("CROSSFADE_UNLEASH_TOKEN") or None
        settings = cls(
            legacy_dsn=reader.dsn("CROSSFADE_LEGACY_DSN"),
            target_dsn=reader.dsn("CROSSFADE_TARGET_DSN"),
            topology=Topology(reader.choice("CROSSFADE_TOPOLOGY", tuple(Topology), Topology.SEPARATE)),
            flags_dir=reader.path("CROSSFADE_FLAGS_DIR") or DEFAULT_FLAGS_DIR,
            metrics_port=reader.port("CROSSFADE_METRICS_PORT"),
            cache_dir=reader.path("CROSSFADE_CACHE_DIR"),
            log_level=reader.choice("CROSSFADE_LOG_LEVEL", LOG_LEVELS, "info"),
            mappings=reader.place("CROSSFADE_MAPPINGS"),
            unleash_url=reader.api_url("CROSSFADE_UNLEASH_URL"),
            unleash_token=token,
            unleash_environment=(
                reader.text("CROSSFADE_UNLEASH_ENVIRONMENT") or _environment_of(token) or DEFAULT_ENVIRONMENT
            ),
            unleash_app_name=reader.text("CROSSFADE_UNLEASH_APP_NAME") or DEFAULT_APP_NAME,
            unleash_admin_token=reader.text("CROSSFADE_UNLEASH_ADMIN_TOKEN") or None,
            unleash_project=reader.text("CROSSFADE_UNLEASH_PROJECT") or "default",
        )
        # A variable that cannot be read says nothing about the others.
        problems = reader.problems or [*_contradictions(settings), *_unleash_contradictions(settings)]
        if problems:
            raise ConfigurationError(*problems)
        return settings

    def load_mappings(self) -> Mappings:
        """Import what `mappings` names; no mappings where it names nothing.

        Raises:
            ConfigurationError: it cannot be imported, or is no `Mappings`.
            MappingError: a mapping contradicts itself, or loses what it does not declare.
        """
        if self.mappings is None:
            return NO_MAPPINGS
        module, _, name = self.mappings.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except CrossfadeError:
            raise
        except Exception as error:
            raise ConfigurationError(
                f"CROSSFADE_MAPPINGS={self.mappings} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(found, Mappings):
            raise ConfigurationError(
                f"CROSSFADE_MAPPINGS={self.mappings} must be a crossfade.mapping.Mappings, not a {type(found).__name__}"
            )
        return found


def _contradictions(settings: Settings) -> list[str]:
    legacy, target = settings.legacy_dsn, settings.target_dsn
    one_store = legacy is not None and target is not None and _store(legacy) == _store(target)
    if settings.topology is Topology.SHARED:
        if target is not None and not one_store:
            return ["CROSSFADE_TOPOLOGY=shared has one store: leave CROSSFADE_TARGET_DSN out"]
        return []
    if (legacy is None) != (target is None):
        missing = "CROSSFADE_LEGACY_DSN" if legacy is None else "CROSSFADE_TARGET_DSN"
        return [f"{missing} is not set: give both databases, or neither for embedded ones"]
    if one_store:
        same = "CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN are the same store"
        return [f"{same}: give another database or schema, or set CROSSFADE_TOPOLOGY=shared"]
    return []


def _unleash_contradictions(settings: Settings) -> list[str]:
    token, environment = settings.unleash_token, settings.unleash_environment
    if settings.unleash_url is None:
        is_lost = token is not None or settings.unleash_admin_token is not None
        return ["CROSSFADE_UNLEASH_URL is not set, and a token for Unleash is"] if is_lost else []
    told = (token or "").partition(":")[2]
    if told and not told.startswith(("*", f"{environment}.")):
        return [f"CROSSFADE_UNLEASH_TOKEN is not a token of the environment {environment!r}"]
    return []


def _environment_of(token: str | None) -> str | None:
    """The environment in a token such as `project:environment.secret`; None where it names none."""
    told = (token or "").partition(":")[2].partition(".")[0]
    return told if told and told != "*" else None


def _store(dsn: Dsn) -> tuple[str, int, str, str]:
    return dsn.host, dsn.port, dsn.database, dsn.schema or "public"


class _Reader:
    """Reads variables one by one and remembers every problem."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def text(self, name: str) -> str:
        return self._environment.get(name, "").strip()

    def dsn(self, name: str) -> Dsn | None:
        text = self.text(name)
        if not text:
            return None
        try:
            return Dsn.parse(text)
        except DsnError as error:
            self.problems.append(f"{name}: {error}")
            return None

    def api_url(self, name: str) -> str | None:
        """The URL of a service, without credentials."""
        text = self.text(name)
        if not text:
            return None
        try:
            url = urlsplit(text)
            is_whole = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            is_whole = False
        # What cannot be split may have a password anywhere, so nothing of it is quoted.
        if not is_whole:
            self.problems.append(f"{name} must be like https://unleash.example.com/api")
            return None
        if url.username or url.password or url.query or url.fragment:
            self.problems.append(
                f"{name} must hold no user, query or fragment: the token belongs into CROSSFADE_UNLEASH_TOKEN"
            )
            return None
        return text.rstrip("/")

    def path(self, name: str) -> Path | None:
        text = self.text(name)
        return Path(text).expanduser() if text else None

    def place(self, name: str) -> str | None:
        text = self.text(name)
        if text and not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", text):
            self.problems.append(f"{name} must be like package.module:NAME, not {text!r}")
            return None
        return text or None

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        text = self.text(name).lower() or default
        if text in choices:
            return text
        self.problems.append(f"{name} must be one of {', '.join(choices)}, not {text!r}")
        return default

    def port(self, name: str) -> int | None:
        text = self.text(name)
        if not text:
            return None
        if text.isascii() and text.isdigit() and int(text) <= 65535:
            return int(text)
        self.problems.append(f"{name} must be a port from 0 to 65535, not {text!r}")
        return None
