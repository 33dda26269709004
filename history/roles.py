"""The application role: workers log in as the owner, then give up everything they do not need (row I-04).

Migration 0002 makes ``sessionfleet_app`` where it may. In that role ``audit_events`` can only be read and
added to; the owner's login stays for migrations and partition upkeep. Without the role (the migrating user
may not create roles) workers go on as the owner, and the triggers alone protect the audit.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, event

APP_ROLE = "sessionfleet_app"

# The role is one for the whole cluster: it counts only where this database's migration gave it its rights.
USABLE = f"""
FROM pg_catalog.pg_roles
WHERE rolname = '{APP_ROLE}'
  AND pg_catalog.pg_has_role(oid, CASE WHEN current_setting('server_version_num')::int >= 160000
                                       THEN 'SET' ELSE 'MEMBER' END)
  AND has_table_privilege(oid, to_regclass('audit_events'), 'INSERT')
"""


def app_role_available(conn: Connection) -> bool:
    """Whether this login can become the application role here: it exists, is granted, and has its rights.

    Looks at ``audit_events`` on the connection's search_path; False before the first migration.
    """
    return conn.exec_driver_sql(f"SELECT 1 {USABLE}").first() is not None


def assume_app_role(engine: Engine) -> None:
    """Every new connection of ``engine`` becomes the application role, where it is available.

    Call once per engine, before its first use. Costs one statement per new connection, none per checkout.
    Connections opened before the migration keep the owner's rights until they are recycled. A login that
    may SET ROLE may also RESET ROLE: this guards against mistakes and injected SQL without a second
    statement, not against whoever holds the password.
    """
    event.listen(engine, "connect", _become_app_role)


def _become_app_role(dbapi_connection: Any, _record: Any) -> None:
    autocommit = dbapi_connection.autocommit
    dbapi_connection.autocommit = True  # a SET inside a transaction is lost when that is rolled back
    try:
        with dbapi_connection.cursor() as cursor:
            cursor.execute(f"SELECT set_config('role', '{APP_ROLE}', false) {USABLE}")
    finally:
        dbapi_connection.autocommit = autocommit
