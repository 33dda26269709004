"""The ``fleet`` command with its imports done once: each command is a process of its own, forked from this one.

Starting Python and importing costs a command a second of processor time, and tests run a hundred of them. What
a command finds is what a new one would: its own arguments, environment, folder and files, nothing imported of
the tests. Read on stdin, a line of JSON for each command; answered on stdout with its exit code.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import sys
import threading
import traceback
from importlib import import_module
from typing import Any, NoReturn

from workers.cli import COMMANDS

FILES = {"stdin": os.O_RDONLY, "stdout": os.O_WRONLY, "stderr": os.O_WRONLY}


def main() -> None:
    for module in ("sessionfleet", "celery", "kombu.transport.redis", *COMMANDS.values()):
        import_module(module)
    gc.freeze()
    for line in sys.stdin:
        wanted = json.loads(line)
        child = os.fork()
        if child == 0:
            leave(become(wanted))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def become(wanted: dict[str, Any]) -> int:
    """From here on this process is the command; its exit code."""
    for number, (name, how) in enumerate(FILES.items()):
        file = os.open(wanted[name], how)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - without what the parent had read ahead
    os.environ.clear()
    os.environ.update(wanted["env"])
    os.chdir(wanted["cwd"])
    sys.argv = ["fleet", *wanted["words"]]
    try:
        runpy.run_module("workers.cli", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:  # noqa: BLE001 - as the interpreter does it
        traceback.print_exc()
        return 1
    return 0


def leave(code: int) -> NoReturn:
    """As the interpreter ends, but for taking all modules apart: threads, exit handlers, what is to be written."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
