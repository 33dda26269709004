"""Where a client looks for its fleet (P-02)."""

from __future__ import annotations

import pytest

from sessionfleet.errors import ValidationFailed
from sessionfleet.servers import Servers


def test_three_databases_follow_from_one_url() -> None:
    found = Servers.find("redis://:secret@redis.example:6380/2", environ={})
    assert found.broker_url == "redis://:secret@redis.example:6380/2"
    assert found.cache_url == "redis://:secret@redis.example:6380/3"
    assert found.result_url == "redis://:secret@redis.example:6380/5"


@pytest.mark.parametrize(("number", "result"), [(12, 15), (13, 0), (15, 2)])
def test_numbers_go_round_at_sixteen(number: int, result: int) -> None:
    assert Servers.find(f"redis://h/{number}", environ={}).result_url == f"redis://h/{result}"


def test_the_environment_of_a_running_fleet_is_enough() -> None:
    environ = {
        "FLEET_BROKER_URL": "redis://a/0",
        "FLEET_RESULT_URL": "redis://b/0",
        "FLEET_CACHE_URL": "redis://c/0",
        "FLEET_CHANNEL_PREFIX": "prod:",
    }
    assert Servers.find(environ=environ) == Servers("redis://a/0", "redis://b/0", "redis://c/0", "prod:")


def test_an_argument_beats_the_url_beats_the_environment() -> None:
    environ = {"FLEET_BROKER_URL": "redis://env/0", "FLEET_REDIS_URL": "redis://shared/4"}
    assert Servers.find("redis://u/1", broker_url="redis://mine/9", environ=environ).broker_url == "redis://mine/9"
    assert Servers.find("redis://u/1", environ=environ).broker_url == "redis://u/1"
    found = Servers.find(environ=environ)
    assert (found.broker_url, found.cache_url) == ("redis://env/0", "redis://shared/5")


def test_the_first_database_may_stand_by_itself() -> None:
    environ = {"FLEET_REDIS_URL": "redis://h", "FLEET_REDIS_DB": "15"}
    assert Servers.find(environ=environ).cache_url == "redis://h/0"


def test_tls_verifies_unless_it_says_otherwise() -> None:
    assert "ssl_cert_reqs=required" in Servers.find("rediss://h/0", environ={}).result_url
    assert "ssl_cert_reqs=none" in Servers.find("rediss://h/0?ssl_cert_reqs=none", environ={}).result_url


def test_nothing_named_says_what_to_do() -> None:
    with pytest.raises(ValidationFailed, match=r"eval .*fleet env"):
        Servers.find(environ={})


@pytest.mark.parametrize("url", ["localhost:6379", "http://h/0", "redis://h/16", "redis://h/x", "redis:///0"])
def test_what_is_no_redis_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(ValidationFailed, match="FLEET_REDIS_URL"):
        Servers.find(environ={"FLEET_REDIS_URL": url})
