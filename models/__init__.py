"""The store: one table per module, no behaviour but invariants."""

from models.agent import Agent
from models.audit_event import AuditEvent
from models.base import Base, table_of
from models.idempotency_key import IdempotencyKey
from models.maintenance_log import MaintenanceLog
from models.message_dead_letter import MessageDeadLetter, MessageDelivery
from models.owner_account import OwnerAccount
from models.relay import EventDeadLetter, LeaderLease, OutboxFailure, RelayCursor
from models.schedule_execution import ScheduleAttempt, ScheduleExecution
from models.scheduled_review import ScheduledReview
from models.session import Session
from models.session_count import SessionCount
from models.session_event import SessionEvent
from models.session_output import SessionOutput
from models.session_transition import SessionTransition

__all__ = [
    "Agent",
    "AuditEvent",
    "Base",
    "EventDeadLetter",
    "IdempotencyKey",
    "LeaderLease",
    "MaintenanceLog",
    "MessageDeadLetter",
    "MessageDelivery",
    "OutboxFailure",
    "OwnerAccount",
    "RelayCursor",
    "ScheduleAttempt",
    "ScheduleExecution",
    "ScheduledReview",
    "Session",
    "SessionCount",
    "SessionEvent",
    "SessionOutput",
    "SessionTransition",
    "table_of",
]
