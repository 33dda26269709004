"""``fleet call``: one operation by hand."""

from __future__ import annotations

import click

from sessionfleet.words import PRIORITIES
from workers.cli.answers import document
from workers.cli.arguments import Seconds, UsageError, parse
from workers.cli.reach import reached


@click.command()
@click.argument("task")
@click.argument("values", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "text", metavar="TEXT", help="More arguments as a JSON object, or @FILE.")
@click.option("--timeout", type=Seconds(), default=30.0, show_default=True, help="How long to wait for the answer.")
@click.option("--deadline", type=Seconds(), help="How long from now a worker may start it (writes only).")
@click.option("--priority", type=click.Choice(PRIORITIES), help="Its place in the queue.")
def call(
    task: str, values: tuple[str, ...], text: str | None, timeout: float, deadline: float | None, priority: str | None
) -> None:
    """Send the operation TASK and print its answer as JSON.

    A value is text where the operation takes text, else JSON. KEY=@FILE takes it from a file, KEY=@- from
    standard input, KEY=@@TEXT is text that begins with @. A typed error is printed as JSON on stderr, exit
    code 1. docs/tasks.md lists every operation.

    \b
    ./fleet call session.create agent_id=a1 session_type=development
    ./fleet call session.update_context session_id=ID --json '{"context": {"step": 2}}'
    ./fleet call session.list status=active limit=5
    """
    try:
        arguments = parse(task, values, text)
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    with reached(typed={}) as fleet:  # wire names are what is typed here
        answer = fleet.call(task, timeout, deadline=deadline, message_priority=priority, **arguments)
        click.echo(document(answer))
