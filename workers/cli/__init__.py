"""The ``fleet`` command: one module per subcommand, imported when it is used.

A new subcommand is a module with a click command named like it and one line in :data:`COMMANDS`.
"""

from __future__ import annotations

import errno
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

COMMANDS = {
    "up": "workers.cli.up",
    "down": "workers.cli.down",
    "status": "workers.cli.status",
    "env": "workers.cli.env",
    "logs": "workers.cli.logs",
    "call": "workers.cli.call",
    "tail": "workers.cli.tail",
    "schedule": "workers.cli.schedule",
    "events": "workers.cli.events",
    "deadletter": "workers.cli.deadletter",
    "demo": "workers.cli.demo",
    "migrate": "workers.cli.migrate",
    "test": "workers.cli.test",
    "bench": "workers.cli.bench",
    "chaos": "workers.cli.chaos",
}
"""Name -> module, in the order of ``fleet --help``."""


UNWRITABLE = frozenset({errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS})
"""What a disk that is full, or not ours to write, answers."""


class Refused(click.ClickException):
    """One sentence on stderr and exit code 2: settings or servers do not allow it."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"fleet: {self.message}", err=True, file=file)


class Group(click.Group):
    """A group whose help gives the first sentence of each command whole, on as many lines as it takes."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(limit=1000)) for name, one in found if one])


class Commands(Group):
    """Subcommands by :data:`COMMANDS`; errors of settings, servers and disks become :class:`Refused`."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return [name for name, module in COMMANDS.items() if find_spec(module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        from workers.embedded import ServerError
        from workers.settings import SettingsError

        try:
            return super().invoke(ctx)
        except (SettingsError, ServerError) as error:
            raise Refused(str(error)) from None
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            raise Refused(_unwritable(error)) from None


def _unwritable(error: OSError) -> str:
    if error.filename is not None:
        return f"cannot write to {error.filename} ({error.strerror}): free it, or set FLEET_HOME."
    with suppress(OSError):
        sys.stdout.close()  # what it could not take would be tried once more at the end
    return f"cannot write ({error.strerror}): make room for the output and in FLEET_HOME."


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def fleet() -> None:
    """Run, watch and use a fleet of session workers.

    Everything a fleet keeps on this machine is in .fleet (FLEET_HOME moves it).
    """


def main() -> None:
    """The command line; exits with 0, 1 (it failed), 2 (wrong use, settings or servers)."""
    fleet(prog_name="./fleet")
