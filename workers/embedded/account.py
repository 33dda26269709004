"""PostgreSQL refuses to run as root: who runs it instead, and where that account can reach files.

Without root nothing here acts: we run it ourselves, from where it is installed, under ``.fleet``. As root
(containers, CI) an unprivileged account runs it; where our folders are closed to that account (a clone in
``/root``), the binaries are copied and the data kept in a folder of their own under ``/var/lib``.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from workers.embedded.server import ServerError

_ACCOUNTS = ("nobody", "postgres")
_FALLBACKS = (Path("/var/lib/sessionfleet"), Path("/var/tmp/sessionfleet"))  # noqa: S108


@dataclass(frozen=True)
class Account:
    """Who runs a server; ``ids`` is None for ourselves."""

    ids: tuple[int, int] | None

    @classmethod
    def for_data(cls, data: Path) -> Account:
        """Ourselves without root; else the owner of existing data, else an account that owns nothing."""
        if os.geteuid() != 0:
            return cls(None)
        if data.exists() and data.stat().st_uid != 0:
            return cls((data.stat().st_uid, data.stat().st_gid))
        for name in _ACCOUNTS:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls((entry.pw_uid, entry.pw_gid))
        raise ServerError(
            "PostgreSQL does not run as root and this machine has no account 'nobody' or 'postgres': "
            "start the fleet as another user, or set FLEET_DATABASE_URL."
        )

    def run(self, command: list[str], folder: Path = Path("/")) -> subprocess.CompletedProcess[str]:
        """Runs a program as this account and collects its output; never raises for its exit code."""
        if self.ids is None:
            return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        uid, gid = self.ids
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, user=uid, group=gid, extra_groups=[]
        )

    def reaches(self, path: Path) -> bool:
        """Whether it can read and enter the folder, as the kernel sees it."""
        if self.ids is None:
            return True
        try:
            return self.run(["ls", str(path)], folder=path).returncode == 0
        except PermissionError:
            return False

    def give(self, path: Path) -> None:
        """Makes the file or folder its own."""
        if self.ids is not None:
            os.chown(path, *self.ids)


def folder_for(account: Account, home: Path) -> Path:
    """``home/data`` where the account can enter it, else a folder of this home under ``/var``."""
    wanted = home / "data"
    wanted.mkdir(parents=True, exist_ok=True)
    if account.reaches(wanted):
        return wanted
    mark = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return _fallback(account) / mark


def program_folder(account: Account, installed: Path) -> Path:
    """A PostgreSQL installation that the account can run: the installed one, or a copy of it."""
    if account.reaches(installed / "bin") and account.reaches(installed / "share"):
        return installed
    mark = hashlib.sha256(f"{installed}:{(installed / 'bin' / 'postgres').stat().st_mtime_ns}".encode())
    copy = _fallback(account) / f"postgresql-{mark.hexdigest()[:12]}"
    if not copy.exists():
        draft = Path(tempfile.mkdtemp(dir=copy.parent)) / "copy"
        shutil.copytree(installed, draft, ignore=shutil.ignore_patterns("include", "*.a"))
        for path in [draft, *draft.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        try:
            draft.rename(copy)
        except OSError:
            if not copy.exists():  # else another fleet was quicker
                raise
        shutil.rmtree(draft.parent, ignore_errors=True)
    return copy


def _fallback(account: Account) -> Path:
    for folder in _FALLBACKS:
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            folder.chmod(0o755)
        except OSError:
            continue
        if account.reaches(folder):
            return folder
    raise ServerError(
        "PostgreSQL does not run as root and no folder could be made that another account reaches: "
        "start the fleet as another user, or set FLEET_DATABASE_URL."
    )
