"""Flower on loopback behind basic authentication: ``python -m workers.flower`` (R-08).

Its pages are for operators; its HTTP API is how services without a Celery client enqueue operations
and read answers (``docs/http.md``). It never starts without a password: the API can run any task.
"""

from __future__ import annotations

import hashlib
import logging
import signal
import sys

from flower.app import Flower
from flower.options import options as flower_options
from flower.urls import settings as tornado_settings

from workers import flower_api, flower_events
from workers.app import create_app
from workers.logging import configure_logging
from workers.preflight import check_servers
from workers.settings import Settings, SettingsError

MAX_TASKS = 10_000
"""Tasks Flower remembers, in memory only; its default of 100,000 takes hundreds of megabytes."""


def build_flower(settings: Settings) -> Flower:
    """Flower for the fleet's app, listening on nothing yet."""
    flower_options.address = settings.flower_host
    flower_options.port = settings.flower_port
    flower_options.basic_auth = [f"{settings.flower_user}:{settings.flower_password}"]
    flower_options.max_tasks = MAX_TASKS
    # Believe X-Real-Ip and X-Scheme only where a proxy on this host is the one that sets them.
    flower_options.xheaders = settings.flower_host in ("127.0.0.1", "::1", "localhost")
    flower_events.install()
    web = {**tornado_settings, "cookie_secret": _cookie_secret(settings)}
    app = create_app(settings)
    app.conf.result_backend = f"{flower_api.LookedUp.__module__}:LookedUp+{settings.result_url}"
    flower = Flower(capp=app, options=flower_options, **web)
    flower.add_handlers(r".*", flower_api.HANDLERS)
    return flower


def check_password(settings: Settings) -> None:
    """Refuses settings without a password, or with a user name that basic authentication cannot carry."""
    if not settings.flower_password:
        raise SettingsError(
            message="FLEET_FLOWER_PASSWORD is not set, and Flower does not start without authentication: "
            "set it, or start the fleet with `./fleet up`, which makes one.",
            setting="FLEET_FLOWER_PASSWORD",
        )
    if ":" in settings.flower_user or not settings.flower_user:
        raise SettingsError(
            message=f"FLEET_FLOWER_USER is {settings.flower_user!r} but must be a name without a colon: change it.",
            setting="FLEET_FLOWER_USER",
        )


def _cookie_secret(settings: Settings) -> str:
    """The same after a restart and on every Flower of the fleet, so that cookies stay good."""
    if settings.flower_cookie_secret:
        return settings.flower_cookie_secret
    return hashlib.sha256(f"flower cookie {settings.flower_password}".encode()).hexdigest()


def main() -> int:
    """Serve until SIGTERM or SIGINT; 0 after them, 2 for settings it cannot start with."""
    try:
        settings = Settings.load()
        check_password(settings)
        check_servers(settings, "broker_url", "result_url")
        flower = build_flower(settings)
        flower.start_http_server()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(
            f"Flower cannot listen on {settings.flower_host}:{settings.flower_port} ({error.strerror}): "
            "set FLEET_FLOWER_HOST and FLEET_FLOWER_PORT to a free address.\n"
        )
        return 2
    configure_logging(settings, "flower")
    logging.getLogger("tornado.access").setLevel("WARNING")  # pages poll; only refusals are worth a line
    for number in (signal.SIGTERM, signal.SIGINT):
        flower.io_loop.asyncio_loop.add_signal_handler(number, flower.stop)
    flower.start()
    return 0


if __name__ == "__main__":
    sys.exit(main())
