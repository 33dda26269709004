"""The same statement from pgbench, whose client costs next to nothing; its program comes with the server."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import make_url

from benchmarks.bench.bare import SEARCH_PATH, connected
from benchmarks.bench.statement import write

CLIENTS = 4
ONE_OF_THEM = """SELECT id, NULL::bigint AS version, gen_random_uuid()::text AS key
    FROM bench_ids WHERE number = :number"""


class PgBench:
    """pgbench on the sessions of a run; ``program`` is None where the server came without it."""

    def __init__(self, database_url: str, server_pid: int, home: Path, ids: list[str]) -> None:
        program = Path(psutil.Process(server_pid).exe()).with_name("pgbench")
        self.program = program if program.is_file() else None
        self._url = make_url(database_url)
        self._script = home / "update.sql"
        statement = write(ONE_OF_THEM, "jsonb_build_object('step', 1)").strip().replace("\n", " ")
        self._script.write_text(f"\\set number random(1, {len(ids)})\n{statement};\n")
        with connected(database_url) as db, db.cursor() as cursor:
            cursor.execute("CREATE TABLE bench_ids (number int PRIMARY KEY, id uuid)")
            cursor.execute(
                "INSERT INTO bench_ids SELECT number, id FROM unnest(%s::uuid[]) WITH ORDINALITY AS one(id, number)",
                (ids,),
            )
            cursor.execute("ANALYZE bench_ids")
        db.close()

    def measure(self, seconds: float) -> dict[str, Any]:
        """Operations a second and the mean latency in ms, prepared, CLIENTS connections."""
        url = self._url
        done = subprocess.run(
            [
                str(self.program), "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "1",
                "-T", str(max(1, round(seconds))), "-f", str(self._script),
                "-h", url.host or "", "-p", str(url.port), "-U", url.username or "", url.database or "",
            ],
            env={"PGPASSWORD": url.password or "", "PGOPTIONS": f"-c search_path={SEARCH_PATH}", "PATH": ""},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        rate = re.search(r"tps = ([\d.]+)", done.stdout)
        mean = re.search(r"latency average = ([\d.]+)", done.stdout)
        if rate is None or mean is None:
            raise RuntimeError(done.stdout + done.stderr)
        return {"rate": float(rate[1]), "p50_ms": float(mean[1])}
