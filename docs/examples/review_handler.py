"""A review of another service: a plain Celery app that needs nothing of the fleet but its broker.

    FLEET_BROKER_URL=redis://... celery -A review_handler worker -Q audits

A schedule uses it with ``handler="audits.nightly", handler_queue="audits"``.
"""

import os

from celery import Celery

app = Celery("audits", broker=os.environ["FLEET_BROKER_URL"])
app.conf.update(
    task_default_queue="audits",
    task_acks_late=True,  # a worker that dies gives its message back
    task_ignore_result=True,
)


@app.task(name="audits.nightly")
def nightly(execution_id, attempt, accounts, metadata, **about):
    """One run. ``accounts``: [{account_id, risk_score, level}], highest risk first. ``about`` has
    schedule_id, session_id, owner_id, nominal_utc, kind and timeout_seconds."""
    run = {"execution_id": execution_id, "attempt": attempt}
    try:
        looked_at = [account["account_id"] for account in accounts]  # the review itself goes here
        if metadata.get("fails"):
            raise RuntimeError("this review was told to fail")
        told = {"status": "success", "result": {"looked_at": looked_at, "slot": about["nominal_utc"]}}
        told["accounts_processed"] = len(looked_at)
    except Exception as error:  # noqa: BLE001 - whatever it is, the fleet is told
        told = {"status": "failed", "error": str(error)}
    # A review that takes longer than timeout_seconds sends schedule.keep_run with the same two names meanwhile.
    app.send_task("schedule.end_run", kwargs={**run, **told}, queue="sessions")
