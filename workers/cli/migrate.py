"""``fleet migrate``: bring the database to this release, or to another revision."""

from __future__ import annotations

import click

from workers.cli.running import load_settings


@click.command()
@click.option("--to", default="head", show_default=True, help="Revision, forward or back; `base` is empty.")
def migrate(to: str) -> None:
    """Run the migrations of the running fleet's database, or of FLEET_DATABASE_URL."""
    import workers.migrate

    before, after = workers.migrate.migrate(load_settings(), to)
    click.echo(f"database at {after or 'base'}" + ("" if before == after else f" (was {before or 'empty'})"))
