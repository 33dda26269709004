"""``./fleet chaos``: a fleet of its own under load and faults, and a look into PostgreSQL at what became of it.

:mod:`ground` the servers and processes, :mod:`load` and :mod:`raw` who uses them, :mod:`readers` who listens,
:mod:`faults` what is done to them, :mod:`verdict` what must be true afterwards, :mod:`report` how it is told.
"""
