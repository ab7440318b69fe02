"""Which provider of flags the settings ask for."""

from __future__ import annotations

from collections.abc import Collection

from platformdirs import user_cache_path

from crossfade.errors import ConfigurationError
from crossfade.events import Observer
from crossfade.flags import FlagProvider
from crossfade.flags.files import FileFlags
from crossfade.settings import Settings


def provider_from(
    settings: Settings, known_models: Collection[str] | None, observer: Observer
) -> FlagProvider:
    """Return the provider: the Unleash server if one is named, else the flag files. It is not opened yet.

    Raises:
        ConfigurationError: Unleash's client is not installed, or the settings name a server and no token.
    """
    if settings.unleash_url is None:
        return FileFlags(settings.flags_dir, known_models, observer)
    if settings.unleash_token is None:
        raise ConfigurationError(
            "CROSSFADE_UNLEASH_TOKEN is not set: make a backend token for the environment in Unleash"
        )
    try:
        # Half of what it takes to start a command, and an application with flag files does without.
        from crossfade.flags.unleash import UnleashFlags  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "Unleash's client is not installed: `pip install 'crossfade[unleash]'`"
        ) from error
    return UnleashFlags(
        settings.unleash_url,
        settings.unleash_token,
        known_models,
        observer,
        environment=settings.unleash_environment,
        app_name=settings.unleash_app_name,
        cache_dir=settings.cache_dir or user_cache_path("crossfade"),
    )
