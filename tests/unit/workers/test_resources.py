"""Resources of a process are built from the settings."""

from __future__ import annotations

from dataclasses import fields

from workers.resources import build_policy
from workers.settings import Settings


def test_the_domain_gets_every_setting_it_shares() -> None:
    settings = Settings.load({}, session_timeout_seconds=77, warn_before=(9, 3), check_agents=True)
    policy = build_policy(settings)
    assert (policy.session_timeout_seconds, policy.warn_before, policy.check_agents) == (77, (9, 3), True)
    assert policy.min_timeout_seconds == 60
    assert build_policy(Settings.load({}, environment="test")).min_timeout_seconds == 1
    own = {"min_timeout_seconds", "max_event_bytes", "max_checkpoint_bytes"}
    assert {field.name for field in fields(policy)} - set(Settings.model_fields) == own
