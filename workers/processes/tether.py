"""Becomes another program that ends when its parent does: ``python -I -S tether.py PARENT SIGNAL USER -- ...``.

``PARENT`` is the pid that must still be the parent, ``SIGNAL`` the number sent when it ends, ``USER`` is
``uid:gid`` or ``-``. Standard library only and loaded by path, so that it starts in milliseconds.

Linux has the signal (PR_SET_PDEATHSIG); it is sent when the *thread* that started the process ends, so
processes are started from threads that live as long as the parent. Elsewhere the program simply runs on,
and the next start sweeps it away (``workers.supervisor.sweep``).
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: str, signal: str, user: str, _separator: str, *command: str) -> None:
    if user != "-":
        uid, gid = map(int, user.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)  # clears a death signal, so it comes before one is asked for
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit(1)  # it ended between the fork and the request
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(*sys.argv[1:])
