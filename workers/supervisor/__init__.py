"""Runs the processes of the Procfile on one machine: starts, watches, restarts, stops, sweeps up."""

from workers.supervisor.procfile import Line, Scale, read_procfile
from workers.supervisor.supervisor import Supervised, Supervisor, make_process
from workers.supervisor.sweep import sweep

__all__ = ["Line", "Scale", "Supervised", "Supervisor", "make_process", "read_procfile", "sweep"]
