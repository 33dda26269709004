"""``celery -A workers.main``: the app of this process's environment."""

from __future__ import annotations

import sys

from workers.app import create_app
from workers.garbage import connect_garbage
from workers.logging import connect_celery
from workers.preflight import connect_celery_check
from workers.settings import Settings, SettingsError

try:
    app = create_app(Settings.load())
except SettingsError as error:
    # One sentence for whoever starts the process; a traceback would only hide it.
    sys.stderr.write(f"{error}\n")
    raise SystemExit(2) from None

connect_celery(app.settings)
connect_celery_check(app.settings)
connect_garbage()
