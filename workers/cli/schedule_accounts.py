"""``fleet schedule assign|accounts``: which accounts an owner's reviews are over."""

from __future__ import annotations

from typing import Any

import click

from workers.cli.answers import as_json, show_answer
from workers.cli.reach import reached
from workers.cli.tables import table

Document = dict[str, Any]


class Account(click.ParamType[Any]):
    """An account, with its risk behind an equals sign if that is known."""

    name = "account"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        account_id, known, risk = value.rpartition("=")
        if not known:
            return {"account_id": value, "risk_score": None}
        try:
            return {"account_id": account_id, "risk_score": float(risk)}
        except ValueError:
            self.fail(f"{value!r} is no account like account-7 or account-7=85", param, ctx)


@click.command()
@click.argument("owner_id", metavar="OWNER")
@click.argument("accounts", nargs=-1, type=Account(), metavar="[ACCOUNT[=RISK]]...")
@click.option("--remove", multiple=True, metavar="ACCOUNT", help="Take it away; repeatable.")
@as_json
def assign(owner_id: str, accounts: tuple[Document, ...], remove: tuple[str, ...], as_json: bool) -> None:
    """Give accounts to an owner, change their risk (0 to 100, without one it is unknown), or take them away.

    \b
    ./fleet schedule assign owner-1 account-7=85 account-8
    ./fleet schedule assign owner-1 --remove account-7
    """
    if not accounts and not remove:
        raise click.UsageError("give an ACCOUNT, or one to --remove")
    with reached() as fleet:
        found = fleet.call("schedule.assign", owner_id=owner_id, accounts=list(accounts), remove=list(remove))
    text = "{added} added, {updated} with another risk, {removed} removed; {owner_id} has {total}"
    show_answer(found, as_json, lambda told: text.format(**told))


@click.command()
@click.argument("owner_id", metavar="OWNER")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000), help="Rows at most.")
@as_json
def accounts(owner_id: str, limit: int, as_json: bool) -> None:
    """List the accounts of an owner in the order of a review: highest risk first."""
    with reached() as fleet:
        found = fleet.call("schedule.assignments", owner_id=owner_id, limit=limit)
    show_answer(found, as_json, listing)


COMMANDS = (assign, accounts)
"""For the group ``fleet schedule``."""


def listing(found: Document) -> str:
    """A line per account."""
    if not found["items"]:
        return "no accounts"
    rows = [
        [one["account_id"], "unknown" if one["risk_score"] is None else f"{one['risk_score']:g}", one["level"]]
        for one in found["items"]
    ]
    more = f"\n(there are more: {found['total']} in all; raise --limit)" if found["next_cursor"] else ""
    return table(["ACCOUNT", "RISK", "LEVEL"], rows) + more
