"""schedule.keep_run and schedule.end_run: what the handler of a run tells the fleet (rows H-10, H-14).

A handler is a Celery task of any service, on a queue of its own. It is sent
``{execution_id, attempt, schedule_id, session_id, owner_id, accounts, nominal_utc, kind, metadata,
timeout_seconds}`` and tells how the run ended; what it returns is not looked at.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from sessionfleet.errors import PayloadTooLarge
from sessionfleet.jsonvalue import JsonObject
from sessionfleet.messages.base import Errors, Name, Text, Write

Attempt = Annotated[int, Field(ge=1, le=32767)]


class KeepRun(Write, name="schedule.keep_run"):
    """A run is still under way: it is left alone for another `handler_timeout_seconds`.

    `go_on` is false when the attempt is over, because it was taken for lost or was ended for a later slot, and
    when a later slot asks it to end (`cancel_other`): stop then, and report what is true.
    """

    answer: ClassVar[str] = "{execution_id, attempt, go_on, changed}"

    execution_id: Name
    attempt: Attempt


class EndRun(Write, name="schedule.end_run"):
    """A run has ended: its result is stored and its session ends, or it is tried again.

    `accepted` is false, and nothing is written, when the attempt was over already.
    """

    answer: ClassVar[str] = "{execution_id, attempt, accepted, status, changed}"
    errors: ClassVar[Errors] = (PayloadTooLarge,)

    execution_id: Name
    attempt: Attempt
    status: Literal["success", "failed"]
    result: JsonObject | None = Field(None, description="Of success: kept with the execution, at most 256 KiB.")
    accounts_processed: Annotated[int, Field(ge=0, le=10**9)] | None = None
    error: Text | None = Field(None, description="Of failed: what went wrong.")

    @model_validator(mode="after")
    def _fits_the_status(self) -> Self:
        if (self.error is not None) != (self.status == "failed"):
            raise ValueError("error: goes with failed, and with nothing else")
        if self.result is not None and self.status == "failed":
            raise ValueError("result: goes with success")
        return self
