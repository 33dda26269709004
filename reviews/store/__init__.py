"""All SQL on schedules and on the tick ledger."""
