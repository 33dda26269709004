"""``fleet deadletter``: messages no worker could take, by hand."""

from __future__ import annotations

from typing import Any

import click

from workers.cli import Group
from workers.cli.answers import as_json, document, requeued, show_answer, with_rest
from workers.cli.arguments import these
from workers.cli.reach import reached
from workers.cli.tables import instant, table

Document = dict[str, Any]


@click.group(cls=Group)
def deadletter() -> None:
    """Look at messages that were put away, send them again, forget them.

    \b
    ./fleet deadletter list --reason unknown
    ./fleet deadletter show 17
    ./fleet deadletter requeue 17 18
    """


@deadletter.command("list")
@click.option("--queue", "from_queue", help="Of one queue.")
@click.option("--task", "task_name", help="Of one task.")
@click.option("--reason", help="Whose reason contains this text.")
@click.option("--requeued", is_flag=True, help="Also those that were requeued and have not come back.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="Rows at most.")
@as_json
def list_(as_json: bool, **given: Any) -> None:
    """List them, latest first."""
    arguments = {name: value for name, value in given.items() if value is not None}
    with reached() as fleet:
        found = fleet.call("deadletter.list", **arguments)
    show_answer(found, as_json, overview)


def overview(found: Document) -> str:
    """One line per letter."""
    if not found["items"]:
        return "no message was put away"
    heads = ("ID", "LAST SEEN", "SEEN", "QUEUE", "TASK", "REASON")
    rows = [
        (
            str(one["id"]),
            instant(one["last_seen_at"]),
            str(one["seen"]),
            one["queue"] or "-",
            one["task_name"] or "-",
            one["reason"].partition("\n")[0][:100] + (" (requeued)" if one["requeued_at"] else ""),
        )
        for one in found["items"]
    ]
    return with_rest(table(heads, rows), found["cursor"])


@deadletter.command()
@click.argument("id_", metavar="ID", type=click.IntRange(1))
def show(id_: int) -> None:
    """Show one with its content, as JSON."""
    with reached() as fleet:
        click.echo(document(fleet.call("deadletter.show", id=id_)))


@deadletter.command()
@these
@as_json
def requeue(ids: tuple[int, ...], as_json: bool) -> None:
    """Put messages back into their queues, as they came."""
    with reached() as fleet:
        answer = fleet.call("deadletter.requeue", ids=sorted(set(ids)))
    because = "not there, requeued before, cut or without a queue"
    show_answer(answer, as_json, lambda told: requeued(told, because))


@deadletter.command()
@these
@as_json
def discard(ids: tuple[int, ...], as_json: bool) -> None:
    """Forget messages for good."""
    with reached() as fleet:
        answer = fleet.call("deadletter.discard", ids=sorted(set(ids)))
    show_answer(answer, as_json, lambda told: f"discarded {told['discarded']}")
