"""Every example of docs/client.md runs, in the order of the page, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support import RunningFleet
from workers.home import ROOT

PAGE = ROOT / "docs" / "client.md"


def test_the_page_runs_from_top_to_bottom(fleet: RunningFleet, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 12
    (tmp_path / "page.py").write_text("\n".join([*blocks, "fleet.close()", "print('to the end')"]), encoding="utf-8")
    settings = fleet.settings
    environ = {
        **{name: value for name, value in fleet.env.items() if not name.startswith("FLEET_")},
        "PYTHONPATH": str(ROOT / "client"),
        "FLEET_BROKER_URL": settings.broker_url,
        "FLEET_RESULT_URL": settings.result_url,
        "FLEET_CACHE_URL": settings.cache_url,
    }
    done = subprocess.run(
        [sys.executable, "page.py"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "to the end"
    assert "session.completed" in done.stdout
