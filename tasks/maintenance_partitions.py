"""The duty that keeps the months of events and audit (rows J-01..J-04)."""

from __future__ import annotations

from history.partition_upkeep import Upkeep, maintain
from sessionfleet import messages as m
from tasks.base import duty
from tasks.runtime import Runtime


@duty(m.PartitionMaintain)
def partition_maintain(runtime: Runtime, command: m.PartitionMaintain) -> Upkeep:
    """Months ahead exist, cut detaches are finished, audit months past retention leave."""
    return maintain(
        runtime.owner_engine,
        runtime.database_schema,
        ahead=runtime.partitions_ahead,
        retention_months=runtime.audit_retention_months,
        dry_run=command.dry_run,
    )
