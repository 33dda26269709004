"""The only reader of the environment: one frozen object with every setting of the fleet (P-01).

``Settings.load()`` finds each value in this order: explicit argument, ``FLEET_<NAME>``, alias
(P-04), preset of the environment (P-05), default. A value out of bounds or a ``FLEET_`` variable
that is no setting raises :class:`SettingsError`, whose text is one sentence for the person who
starts the process; nothing is clamped or ignored.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self
from urllib.parse import quote

from pydantic import ValidationError, ValidationInfo, field_validator, model_validator

from sessionfleet.errors import FleetError
from workers.settings_environment import PREFIX, Read, from_environment, preset
from workers.settings_fields import Fields
from workers.settings_kinds import Spec, spec_of
from workers.settings_urls import (
    MASK,
    host_in_url,
    is_host,
    is_url,
    mask,
    postgres_url,
    redis_database,
    with_redis_database,
)

_DERIVED = {"broker_url": 0, "cache_url": 1, "beat_url": 2, "result_url": 3}


class SettingsError(FleetError):
    """A setting is unknown or out of bounds; the text is one sentence that says what to do.

    The command line and worker start print it and exit with 2. ``details.setting`` is the
    environment name.
    """

    code = "INVALID_SETTINGS"
    http_status: ClassVar[int] = 500

    def __str__(self) -> str:
        return self.message


class Settings(Fields):
    """All settings, checked, with the four Redis URLs filled in; frozen. See :meth:`load`."""

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **explicit: Any) -> Self:
        """Settings from the caller, ``environ`` (default: the process's own), preset and defaults.

        An explicit None counts as not given. Raises :class:`SettingsError`. Reads nothing else and
        connects to nothing.
        """
        known = frozenset(cls.model_fields)
        found, unknown = from_environment(os.environ if environ is None else environ, known)
        if unknown:
            raise _unknown(unknown[0], known)
        for name, value in explicit.items():
            if name not in known:
                raise _unknown(PREFIX + name.upper(), known)
            if value is not None:
                found[name] = Read(value, PREFIX + name.upper())
        chosen = found.get("environment", Read(cls.model_fields["environment"].default, "")).value
        values = dict(preset(chosen)) | {name: read.value for name, read in found.items()}
        sources = {name: read.source for name, read in found.items()}
        try:
            return cls.model_validate(values, context=sources)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = str(first["loc"][0])
            raise _refused(field, found[field].value, sources, str(chosen)) from None

    @field_validator("warn_before", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [part for part in value.strip("[] ").split(",") if part.strip()]
        return value

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        sources: Mapping[str, str] = info.context or {}
        for name, field in type(self).model_fields.items():
            if not _fits(getattr(self, name), spec_of(field), self.environment):
                raise _refused(name, getattr(self, name), sources, self.environment)
        self._check_order("task_time_limit", "visibility_timeout", sources)
        self._check_order("beat_max_loop_interval", "redbeat_lock_timeout", sources)
        # Frozen for everybody else; the derived values are part of making the object.
        self.__dict__.update(self._derived())
        return self

    def _check_order(self, lower: str, higher: str, sources: Mapping[str, str]) -> None:
        low, high = getattr(self, lower), getattr(self, higher)
        if low >= high:
            at_fault, name = (lower, higher) if lower in sources else (higher, lower)
            relation = "below" if at_fault == lower else "above"
            source = sources.get(at_fault, PREFIX + at_fault.upper())
            value, other = getattr(self, at_fault), getattr(self, name)
            raise SettingsError(
                message=f"{source} is {value} but must be {relation} {PREFIX}{name.upper()}, which is "
                f"{other}: change one of the two.",
                setting=PREFIX + at_fault.upper(),
            )

    def _derived(self) -> dict[str, str]:
        login = f":{quote(self.redis_password, safe='')}@" if self.redis_password else ""
        base = self.redis_url or f"redis://{login}{host_in_url(self.redis_host)}:{self.redis_port}"
        first = redis_database(base)
        first = self.redis_db if first is None else first
        values = {
            "database_url": postgres_url(self.database_url),
            "redis_url": with_redis_database(base, first),
        }
        for name, offset in _DERIVED.items():
            values[name] = getattr(self, name) or with_redis_database(base, (first + offset) % 16)
        return values

    def shown(self) -> dict[str, Any]:
        """Every value, with passwords replaced by ``***``; for logs and ``repr``."""
        return {name: _shown(getattr(self, name), spec_of(field)) for name, field in type(self).model_fields.items()}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from self.shown().items()


def _fits(value: Any, spec: Spec, environment: str) -> bool:
    match spec.kind:
        case "count" | "duration":
            return spec.allows(value, environment)
        case "durations":
            return all(spec.allows(one, environment) for one in value)
        case "choice":
            return value in spec.choices
        case "url":
            return value == "" or is_url(value, spec.choices)
        case "host":
            return is_host(value)
        case "switch" | "text":
            return True


def _refused(name: str, value: Any, sources: Mapping[str, str], environment: str) -> SettingsError:
    field = Settings.model_fields[name]
    spec = spec_of(field)
    variable = PREFIX + name.upper()
    source = sources.get(name, variable)
    alias = "" if source == variable else f" (alias of {variable})"
    default = _shown(preset(environment).get(name, field.default), spec)
    remedy = f"or remove it to use {default!r}" if default not in ("", MASK) else "or remove it"
    return SettingsError(
        message=f"{source}{alias} is {_shown(value, spec)!r} but must be {spec.describe(environment)}: "
        f"change it, {remedy}.",
        setting=variable,
    )


def _unknown(variable: str, known: frozenset[str]) -> SettingsError:
    setting = variable.removeprefix(PREFIX).lower()
    near = difflib.get_close_matches(setting, known, n=1)
    hint = f"write {PREFIX}{near[0].upper()} if you mean that, or remove it." if near else "remove it."
    return SettingsError(
        message=f"{variable} is not a setting of the fleet (docs/configuration.md lists them all): {hint}",
        setting=variable,
    )


def _shown(value: Any, spec: Spec) -> Any:
    if spec.secret:
        return MASK if value else ""
    return mask(value) if spec.kind == "url" and isinstance(value, str) else value
