"""One supervisor per home, and looking whether there is one is in nobody's way."""

from __future__ import annotations

import fcntl
from pathlib import Path
from threading import Timer

import pytest

from workers.home import Home
from workers.supervisor.lock import LOOK, AlreadyRunning, FleetLock, is_held


def test_one_holds_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert not is_held(home)
    with FleetLock(home):
        assert is_held(home)
        with pytest.raises(AlreadyRunning):
            FleetLock(home).__enter__()
    assert not is_held(home)


def test_a_look_is_in_nobodys_way(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with FleetLock(home):
        pass
    looking = home.lock.open()
    fcntl.flock(looking, fcntl.LOCK_SH)
    assert not is_held(home), "somebody else who looks is no supervisor"
    Timer(LOOK / 4, looking.close).start()
    with FleetLock(home):
        assert is_held(home)
