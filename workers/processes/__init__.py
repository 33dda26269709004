"""Operating system processes: who they are, how they are started, stopped and tied to their parent."""

from workers.processes.identity import Identity
from workers.processes.managed import ManagedProcess

__all__ = ["Identity", "ManagedProcess"]
