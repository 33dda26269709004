"""Settings: precedence, bounds, presets, aliases, derived URLs (P-01..P-05, AT-P1, AT-P2)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.settings import Settings, SettingsError
from workers.settings_environment import ALIASES, PRESETS
from workers.settings_fields import ENVIRONMENTS
from workers.settings_kinds import Spec, spec_of
from workers.settings_urls import redis_database

SPECS: dict[str, Spec] = {name: spec_of(field) for name, field in Settings.model_fields.items()}
NUMBERS = {name: spec for name, spec in SPECS.items() if spec.kind in ("count", "duration", "durations")}

# Bounds of one setting that follow from another one's default; the partner moves out of the way.
PARTNERS: dict[str, dict[str, Any]] = {
    "task_time_limit": {"visibility_timeout": 604_800},
    "visibility_timeout": {"task_time_limit": 1},
    "beat_max_loop_interval": {"redbeat_lock_timeout": 604_800},
    "redbeat_lock_timeout": {"beat_max_loop_interval": 1},
}


def load(environ: dict[str, str] | None = None, **explicit: Any) -> Settings:
    return Settings.load(environ or {}, **explicit)


def refusal(environ: dict[str, str] | None = None, **explicit: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ, **explicit)
    return str(caught.value)


EDGES = [
    pytest.param(name, environment, *spec.bounds(environment), id=f"{name}-{environment}")
    for name, spec in NUMBERS.items()
    for environment in ENVIRONMENTS
]


@pytest.mark.parametrize(("name", "environment", "low", "high"), EDGES)
def test_each_bound_is_accepted_and_one_beyond_is_refused_naming_the_field(
    name: str, environment: str, low: int, high: int
) -> None:
    variable = f"FLEET_{name.upper()}"
    others = {"environment": environment, **PARTNERS.get(name, {})}
    for good in (low, high):
        if name in ("visibility_timeout", "redbeat_lock_timeout") and good == low:
            continue  # the partner cannot be below 1
        if name in ("task_time_limit", "beat_max_loop_interval") and good == high:
            continue  # nor above a week
        value = getattr(load({variable: str(good)}, **others), name)
        assert value == ((good,) if NUMBERS[name].kind == "durations" else good)
    for bad in (low - 1, high + 1):
        if bad == 0 and NUMBERS[name].off:
            assert getattr(load({variable: "0"}, **others), name) == 0
            continue
        message = refusal({variable: str(bad)}, **others)
        assert message.startswith(f"{variable} is ")
        assert str(bad) in message and f"from {low} to {high}" in message
        assert "\n" not in message and message.endswith(".")


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if spec.kind != "text"])
def test_a_value_of_the_wrong_type_is_refused_naming_the_field(name: str) -> None:
    variable = f"FLEET_{name.upper()}"
    message = refusal({variable: "no such value"})
    assert message.startswith(f"{variable} is ") and " but must be " in message


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_preset_validates_and_holds_its_values(environment: str) -> None:
    settings = load(environment=environment)
    for name, value in PRESETS[settings.environment].items():
        assert getattr(settings, name) == value


def test_presets_are_those_of_the_row() -> None:
    def values(environment: str) -> tuple[object, ...]:
        s = load(environment=environment)
        return (
            s.session_timeout_seconds,
            s.checkpoint_interval_events,
            s.max_events_per_session,
            s.grace_seconds,
            s.enable_failure_snapshots,
            s.redis_db,
        )

    assert values("development") == (1800, 5, 500, 180, True, 0)
    assert values("test") == (300, 3, 100, 60, False, 15)
    assert values("staging") == values("production") == (3600, 15, 2000, 600, True, 0)


@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias_is_read_and_fleet_wins(alias: str) -> None:
    name, factor = ALIASES[alias].setting, ALIASES[alias].factor
    spec = SPECS[name]
    given_value, expected, own, own_value = {
        "count": (str(spec.low + 7), spec.low + 7, str(spec.low + 8), spec.low + 8),
        "duration": (str(spec.low + 7), (spec.low + 7) * factor, str(spec.low + 8), spec.low + 8),
        "switch": ("true", True, "false", False),
        "text": ("one", "one", "two", "two"),
        "host": ("one", "one", "two", "two"),
        "url": ("redis://one/3", "redis://one/3", "redis://two/4", "redis://two/4"),
    }[spec.kind]
    assert getattr(load({alias: given_value}), name) == expected
    assert getattr(load({alias: given_value, f"FLEET_{name.upper()}": own}), name) == own_value


def test_a_refused_alias_is_named_with_the_setting_it_stands_for() -> None:
    assert refusal({"REDIS_PORT": "65536"}).startswith("REDIS_PORT (alias of FLEET_REDIS_PORT) is 65536 but")
    assert "MORGAN_SESSION_TIMEOUT (alias of FLEET_SESSION_TIMEOUT_SECONDS)" in refusal(
        {"MORGAN_SESSION_TIMEOUT": "half an hour"}
    )


@given(
    explicit=st.none() | st.integers(60, 604_800),
    own=st.none() | st.integers(60, 604_800),
    alias=st.none() | st.integers(60, 604_800),
    environment=st.none() | st.sampled_from(ENVIRONMENTS),
)
def test_precedence(explicit: int | None, own: int | None, alias: int | None, environment: Any) -> None:
    environ = {
        "FLEET_SESSION_TIMEOUT_SECONDS": own,
        "SESSION_DEFAULT_TTL": alias,
        "FLEET_ENVIRONMENT": environment,
    }
    settings = load({k: str(v) for k, v in environ.items() if v is not None}, session_timeout_seconds=explicit)
    preset = PRESETS[environment or "development"]["session_timeout_seconds"]
    expected = next(value for value in (explicit, own, alias, preset) if value is not None)
    assert settings.session_timeout_seconds == expected


@given(number=st.none() | st.integers(0, 15), redis_db=st.integers(0, 15), tls=st.booleans())
def test_the_four_databases_follow_the_first(number: int | None, redis_db: int, tls: bool) -> None:
    url = f"{'rediss' if tls else 'redis'}://:pw@one:7000" + ("" if number is None else f"/{number}")
    settings = load(redis_url=url, redis_host="ignored", redis_port=1, redis_db=redis_db)
    first = redis_db if number is None else number
    urls = [settings.broker_url, settings.cache_url, settings.beat_url, settings.result_url]
    assert [redis_database(one) for one in urls] == [(first + n) % 16 for n in range(4)]
    assert all(one.startswith(url.rpartition(":")[0] + ":7000/") for one in urls)
    assert all(("ssl_cert_reqs=required" in one) is tls for one in urls)


@given(password=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20))
def test_host_and_port_make_the_url_with_and_without_password(password: str) -> None:
    settings = load(redis_host="box", redis_port=7001, redis_db=2, redis_password=password)
    assert settings.redis_url.endswith("box:7001/2")
    assert (":" in settings.redis_url.removeprefix("redis://").removesuffix("box:7001/2")) is bool(password)
    Settings.load({"FLEET_REDIS_URL": settings.redis_url})


@pytest.mark.parametrize("host", ["box", "box.example.org", "my_box-2", "10.0.0.7", "::1", "[fe80::1]"])
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    urls = load({"FLEET_REDIS_HOST": host})
    assert {urlsplit(url).hostname for url in (urls.broker_url, urls.cache_url)} == {host.strip("[]")}
    assert urls.broker_url.endswith(":6379/0")


@pytest.mark.parametrize("host", ["a/b", "box:6379", "a b", "user@box", "box?x", "[::1", "::g", "redis://box"])
def test_any_other_host_is_refused(host: str) -> None:
    message = refusal({"FLEET_REDIS_HOST": host})
    assert message.startswith(f"FLEET_REDIS_HOST is {host!r} but must be the name or the address of a machine")


def test_an_explicit_url_of_one_database_is_kept() -> None:
    settings = load(redis_url="redis://one/4", cache_url="redis://other:1/9")
    assert settings.cache_url == "redis://other:1/9"
    assert settings.broker_url == "redis://one/4"
    assert settings.beat_url == "redis://one/6"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_plain_database_url_gets_its_driver(scheme: str) -> None:
    url = f"{scheme}://u:p@h:5433/d?host=/run/pg"
    assert load(database_url=url).database_url == "postgresql+psycopg2://u:p@h:5433/d?host=/run/pg"


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:6379", "http://h/0", "redis://h/16", "redis://h/a", "redis://", "redis://h:port/0"),
        *("redis://h/0?colour=red", "redis://h/0?socket_timeout=long", "redis://h/0?db=one"),
    ],
)
def test_a_bad_redis_url_is_refused(url: str) -> None:
    assert refusal({"FLEET_CACHE_URL": url}).startswith(f"FLEET_CACHE_URL is {url!r} but must be redis://")


def test_options_of_redis_py_are_taken() -> None:
    url = "redis://h/0?socket_timeout=3&health_check_interval=5"
    assert load({"FLEET_CACHE_URL": url}).cache_url == url


@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_a_password_with_a_slash_is_not_shown_by_the_refusal(scheme: str) -> None:
    message = refusal({"FLEET_REDIS_URL": f"{scheme}://u:hid/den@h/16"})
    assert "den" not in message and f"{scheme}://u:***@h/16" in message


def test_unknown_names_are_refused_with_the_nearest_name() -> None:
    assert refusal({"FLEET_POOL_SIZ": "3"}).endswith("write FLEET_POOL_SIZE if you mean that, or remove it.")
    assert refusal({"fleet_pool_size": "3", "FLEET_pool_size": "3"}).startswith("FLEET_pool_size is not a")
    assert refusal(colour="red").startswith("FLEET_COLOUR is not a setting")


def test_launcher_variables_and_empty_ones_are_left_alone() -> None:
    load({"FLEET_SCALE": "sessions=2", "FLEET_FLOWER_URL": "http://x", "FLEET_POOL_SIZE": "", "OTHER": "x"})


@pytest.mark.parametrize(
    ("values", "at_fault", "other"),
    [
        ({"task_time_limit": 360}, "FLEET_TASK_TIME_LIMIT is 360", "below FLEET_VISIBILITY_TIMEOUT"),
        ({"visibility_timeout": 300}, "FLEET_VISIBILITY_TIMEOUT is 300", "above FLEET_TASK_TIME_LIMIT"),
        ({"redbeat_lock_timeout": 5}, "FLEET_REDBEAT_LOCK_TIMEOUT is 5", "above FLEET_BEAT_MAX_LOOP"),
        ({"beat_max_loop_interval": 30}, "FLEET_BEAT_MAX_LOOP_INTERVAL is 30", "below FLEET_REDBEAT_LOCK"),
    ],
)
def test_settings_that_belong_together(values: dict[str, Any], at_fault: str, other: str) -> None:
    message = refusal(**values)
    assert message.startswith(at_fault) and other in message


@pytest.mark.parametrize("written", ["300,60", "[300, 60]", " 300 , 60 "])
def test_a_list_is_written_with_commas(written: str) -> None:
    assert load({"FLEET_WARN_BEFORE": written}).warn_before == (300, 60)


def test_passwords_are_never_printed() -> None:
    settings = load(
        database_url="postgresql://u:hidden@h/d",
        redis_url="redis://:hidden@h/0",
        redis_password="hidden",
        flower_password="hidden",
        flower_cookie_secret="hidden",
        beat_url="redis://h/1?password=hidden",
    )
    assert "hidden" not in repr(settings) and "hidden" not in str(settings)
    assert "hidden" not in refusal(database_url="mysql://u:hidden@h/d")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().__setattr__("pool_size", 3)
