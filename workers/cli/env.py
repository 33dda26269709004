"""``fleet env``: the running fleet's addresses for a shell."""

from __future__ import annotations

import shlex
import sys

import click

from workers.cli.running import environment, flower_url, say
from workers.settings import Settings

URLS = ("database_url", "redis_url", "broker_url", "result_url", "cache_url", "beat_url")


@click.command()
def env() -> None:
    """Print shell exports of the running fleet's URLs, with passwords: eval "$(./fleet env)"."""
    found = environment()
    if not found:
        say("not running: start it with ./fleet up")
        sys.exit(1)
    for name, value in exports(Settings.load(found)).items():
        click.echo(f"export {name}={shlex.quote(value)}")


def exports(settings: Settings) -> dict[str, str]:
    """The variables by name; channel_prefix only where there is one."""
    values = {f"FLEET_{name.upper()}": str(getattr(settings, name)) for name in URLS}
    if settings.channel_prefix:
        values["FLEET_CHANNEL_PREFIX"] = settings.channel_prefix
    return {**values, "FLEET_FLOWER_URL": flower_url(settings)}
