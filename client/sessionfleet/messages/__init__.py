"""The wire contract: every operation's message class, importable by name.

Importing this package fills :data:`CATALOGUE`.
"""

from sessionfleet.messages.agents import AgentHeartbeat
from sessionfleet.messages.answers import StoredAnswers
from sessionfleet.messages.apply import Apply
from sessionfleet.messages.base import CATALOGUE, Duty, Message, Write, message_type
from sessionfleet.messages.content import Update, UpdateContext, UpdateMetrics
from sessionfleet.messages.create import Create
from sessionfleet.messages.dead_letters import (
    DiscardDeadLetters,
    DrainQuarantine,
    ListDeadLetters,
    RequeueDeadLetters,
    ShowDeadLetter,
)
from sessionfleet.messages.event_delivery import (
    Consume,
    DiscardEvents,
    EventDeadLetters,
    ReplayEvents,
    RequeueEvents,
)
from sessionfleet.messages.events import EmitEvent, GetEvents, OwnEvent
from sessionfleet.messages.get_many import GetMany
from sessionfleet.messages.lifecycle import (
    Complete,
    Crash,
    Delete,
    DeleteByUser,
    Expire,
    Extend,
    Fail,
    Idle,
    Interrupt,
    Pause,
    Recover,
    Resume,
    SetStatus,
    Start,
    Terminate,
    Touch,
    WaitInput,
)
from sessionfleet.messages.maintenance import (
    CleanupStale,
    DrainOutbox,
    IndexContexts,
    PartitionMaintain,
    PurgeOld,
    SumCounts,
    TimeoutWarnings,
)
from sessionfleet.messages.output import AppendOutput, ReadOutput
from sessionfleet.messages.queries import Attach, Count, Get, GetByUser, History, List, ListActive
from sessionfleet.messages.schedule import (
    CreateSchedule,
    DeleteSchedule,
    DispatchDue,
    GetSchedule,
    ListSchedules,
    PauseSchedule,
    ResumeSchedule,
    RunReview,
    ScheduleHistory,
    TriggerSchedule,
    UpdateSchedule,
)
from sessionfleet.messages.schedule_accounts import AssignAccounts, ListAssignments
from sessionfleet.messages.schedule_handlers import EndRun, KeepRun
from sessionfleet.messages.schedule_scan import ScanSchedules
from sessionfleet.messages.schedule_views import (
    BackfillSchedule,
    ExplainSchedule,
    NextRun,
    PreviewSchedule,
    SimulateSchedule,
)

__all__ = [
    "CATALOGUE",
    "AgentHeartbeat",
    "AppendOutput",
    "Apply",
    "AssignAccounts",
    "Attach",
    "BackfillSchedule",
    "CleanupStale",
    "Complete",
    "Consume",
    "Count",
    "Crash",
    "Create",
    "CreateSchedule",
    "Delete",
    "DeleteByUser",
    "DeleteSchedule",
    "DiscardDeadLetters",
    "DiscardEvents",
    "DispatchDue",
    "DrainOutbox",
    "DrainQuarantine",
    "Duty",
    "EmitEvent",
    "EndRun",
    "EventDeadLetters",
    "Expire",
    "ExplainSchedule",
    "Extend",
    "Fail",
    "Get",
    "GetByUser",
    "GetEvents",
    "GetMany",
    "GetSchedule",
    "History",
    "Idle",
    "IndexContexts",
    "Interrupt",
    "KeepRun",
    "List",
    "ListActive",
    "ListAssignments",
    "ListDeadLetters",
    "ListSchedules",
    "Message",
    "NextRun",
    "OwnEvent",
    "PartitionMaintain",
    "Pause",
    "PauseSchedule",
    "PreviewSchedule",
    "PurgeOld",
    "ReadOutput",
    "Recover",
    "ReplayEvents",
    "RequeueDeadLetters",
    "RequeueEvents",
    "Resume",
    "ResumeSchedule",
    "RunReview",
    "ScanSchedules",
    "ScheduleHistory",
    "SetStatus",
    "ShowDeadLetter",
    "SimulateSchedule",
    "Start",
    "StoredAnswers",
    "SumCounts",
    "Terminate",
    "TimeoutWarnings",
    "Touch",
    "TriggerSchedule",
    "Update",
    "UpdateContext",
    "UpdateMetrics",
    "UpdateSchedule",
    "WaitInput",
    "Write",
    "message_type",
]
