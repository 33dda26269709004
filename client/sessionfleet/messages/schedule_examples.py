"""INVALID_SCHEDULE with an example that is right (row H-03)."""

from __future__ import annotations

import json
from typing import Any

from sessionfleet.errors import InvalidSchedule

EXAMPLES: dict[str, dict[str, Any]] = {
    "daily": {"schedule_type": "daily", "hour": 9, "minute": 30, "timezone": "Europe/Berlin"},
    "weekly": {"schedule_type": "weekly", "weekday": 1, "hour": 9},
    "biweekly": {"schedule_type": "biweekly", "anchor_date": "2026-01-05", "hour": 9},
    "monthly": {"schedule_type": "monthly", "day": 31, "month_end": "clamp", "hour": 9},
    "cron": {"schedule_type": "cron", "cron_expression": "*/30 9-17 * * MON-FRI"},
    "interval": {"schedule_type": "interval", "interval_minutes": 15},
    "one_time": {"schedule_type": "one_time", "scheduled_time": "2099-01-01T09:00", "timezone": "Europe/Berlin"},
}
"""Schedule type -> arguments of schedule.create that are right."""

_SHOWN: dict[str, dict[str, Any]] = {
    "timezone": {"timezone": "Europe/Berlin"},
    "dst_gap": {"dst_gap": "shift"},
    "dst_overlap": {"dst_overlap": "first"},
    "jitter_seconds": {"jitter_seconds": 60},
    "windows": {"windows": ["MON-FRI 08:00-18:00"]},
    "window_policy": {"windows": ["MON-FRI 08:00-18:00"], "window_policy": "wait"},
    "blackouts": {"blackouts": ["2026-12-24/2027-01-01", "05-01"]},
    "end_at": {"end_at": "2099-12-31T00:00:00Z"},
    "account_filter": {"account_filter": {"risk": {"min": 60}, "exclude": ["account-7"]}},
    "handler": {"handler": "audits.nightly", "handler_queue": "audits"},
    "handler_queue": {"handler": "audits.nightly", "handler_queue": "audits"},
}
_WHOLE: dict[str, dict[str, Any]] = {
    "day_mode": {"schedule_type": "cron", "cron_expression": "0 0 13 * FRI", "day_mode": "and"},
    "interval_seconds": {"schedule_type": "interval", "interval_seconds": 30},
    "last_business_day": {"schedule_type": "monthly", "last_business_day": True, "hour": 9},
}


_TYPE_OF: dict[str, str] = {
    "weekday": "weekly",
    "anchor_date": "biweekly",
    **dict.fromkeys(("day", "month_end", "last_business_day"), "monthly"),
    **dict.fromkeys(("cron_expression", "day_mode"), "cron"),
    **dict.fromkeys(("interval_minutes", "interval_seconds"), "interval"),
    "scheduled_time": "one_time",
}
"""Field -> the type whose example is shown when the caller named none."""


def invalid_schedule(field: str, reason: str, schedule_type: object = None) -> InvalidSchedule:
    """The error about ``field``, with an example of the type that shows the field, in details and text."""
    kind = schedule_type if isinstance(schedule_type, str) and schedule_type in EXAMPLES else None
    kind = kind or _TYPE_OF.get(field, "daily")
    shown = {**EXAMPLES[kind], **_SHOWN.get(field, {})}
    if _WHOLE.get(field, {}).get("schedule_type") == kind:
        shown = _WHOLE[field]
    example = {**shown, "owner_id": "owner-1"}
    text = ", ".join(f"{name}={json.dumps(value)}" for name, value in example.items())
    return InvalidSchedule(
        message=f"{field}: {reason}. A correct schedule: {text}", field=field, reason=reason, example=example
    )
