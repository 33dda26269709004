"""The private PostgreSQL and Valkey of a fleet without configured servers, and of the tests."""

from workers.embedded.postgres import EmbeddedPostgres
from workers.embedded.server import ServerError
from workers.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedPostgres", "EmbeddedValkey", "ServerError"]
