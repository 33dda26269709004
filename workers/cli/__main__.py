"""``python -m workers.cli``, what ``./fleet`` becomes."""

from workers.cli import main

main()
