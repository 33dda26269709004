"""Time that is the machine's and not ours."""

from __future__ import annotations

from pathlib import Path


def kept_waiting(*processes: int) -> float:
    """Seconds that these processes, all their threads together, were ready and no processor was free, so far."""
    threads = (task for pid in processes for task in Path(f"/proc/{pid}/task").iterdir())
    return sum(int((task / "schedstat").read_text().split()[1]) for task in threads) / 1e9
