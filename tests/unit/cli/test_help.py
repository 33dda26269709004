"""``./fleet --help`` and the help of its groups: what a newcomer reads first."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from workers.cli import COMMANDS, fleet


@pytest.mark.parametrize("group", [[], ["schedule"], ["events"], ["deadletter"]])
def test_no_sentence_about_a_command_is_cut(group: list[str]) -> None:
    done = CliRunner().invoke(fleet, [*group, "--help"], terminal_width=80)
    assert done.exit_code == 0, done.output
    assert "..." not in done.output.partition("Commands:")[2]


def test_every_command_has_a_line() -> None:
    shown = CliRunner().invoke(fleet, ["--help"]).output.partition("Commands:")[2].split()
    assert set(COMMANDS) <= set(shown)
