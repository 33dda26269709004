"""DELIVERY: Celery shims, from a validated message to one domain verb and its answer."""
