"""What subcommands know of the fleet that runs in this home."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from workers.home import Home
from workers.settings import Settings
from workers.settings_urls import host_in_url
from workers.supervisor.lock import is_held

if TYPE_CHECKING:
    from sessionfleet import Fleet


def say(text: str) -> None:
    """A line of progress on stderr; stdout is for what other programs read."""
    click.echo(f"fleet: {text}", err=True)


def environment(home: Home | None = None) -> dict[str, str]:
    """FLEET_ variables of the fleet that runs in this home, with its passwords; empty when none does."""
    home = home or Home.find()
    return {k: str(v) for k, v in home.state.section("environment").items()} if is_held(home) else {}


def load_settings(**explicit: Any) -> Settings:
    """Settings for talking to a fleet: arguments, then this shell's environment, then the running fleet's."""
    given = {name: value for name, value in os.environ.items() if value}
    return Settings.load({**environment(), **given}, **explicit)


def connect(settings: Settings | None = None) -> Fleet:
    """A client of the fleet that :func:`load_settings` finds; connects at its first call."""
    from sessionfleet import Fleet

    settings = settings or load_settings()
    return Fleet.connect(
        broker_url=settings.broker_url,
        result_url=settings.result_url,
        cache_url=settings.cache_url,
        channel_prefix=settings.channel_prefix,
        submit_timeout=settings.submit_timeout,
    )


def flower_url(settings: Settings) -> str:
    """Flower's address with user and password, as an HTTP client takes it."""
    login = ":".join(quote(text, safe="") for text in (settings.flower_user, settings.flower_password))
    return f"http://{login}@{host_in_url(settings.flower_host)}:{settings.flower_port}"
