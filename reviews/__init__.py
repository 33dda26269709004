"""DOMAIN: recurrence, tick ledger, overlap, misfire and the runs of scheduled reviews."""
