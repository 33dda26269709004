"""The address of Flower that ``./fleet env`` prints, whatever user, password and host are."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest

from workers.cli.running import flower_url
from workers.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "flower.example"])
@pytest.mark.parametrize("password", ["plain", "a@b/c#d?e:f%g h"])
def test_an_http_client_reads_what_was_set(host: str, password: str) -> None:
    given = {"FLEET_FLOWER_HOST": host, "FLEET_FLOWER_USER": "an@operator", "FLEET_FLOWER_PASSWORD": password}
    parts = urlsplit(flower_url(Settings.load(given)))
    assert (parts.hostname, parts.port, parts.path) == (host, 5555, "")
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == ("an@operator", password)
