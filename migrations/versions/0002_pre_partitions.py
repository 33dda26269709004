"""Months on demand, append-only audit, the application role (rows I-04, J-01, J-02).

Revision ID: 0002_pre_partitions
Revises: 0001_pre_base

Made here, all in the schema the migration runs in:

``fleet_ensure_month(parent, at)``
    SECURITY DEFINER, for the application role. Creates the month of ``at`` (UTC) of ``session_events``
    or ``audit_events`` and answers its name, or NULL when ``at`` is covered already. A READ COMMITTED
    transaction of its own, please: it waits for other creators of the same parent (advisory lock) and
    must see what they committed. The parent is locked SHARE UPDATE EXCLUSIVE, so writers go on.
``fleet_refuse_change``, ``fleet_guard_month``
    The trigger that refuses UPDATE, DELETE and TRUNCATE on ``audit_events``. Row triggers are cloned to
    partitions by PostgreSQL, TRUNCATE triggers are not: every audit month gets its own.
``fleet_grant_app``
    What the role ``sessionfleet_app`` may do in this schema; safe to call again, e.g. after the
    role was made by hand because the migrating user may not create roles.

The role belongs to the cluster: a downgrade takes its rights in this schema and leaves it standing,
so that logins an operator put into it are still there after the next upgrade.
"""

from __future__ import annotations

from alembic import op

revision = "0002_pre_partitions"
down_revision = "0001_pre_base"
branch_labels = None
depends_on = None

REFUSE_CHANGE = """
CREATE FUNCTION {schema}.fleet_refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    RAISE EXCEPTION '% refused: %.% is append-only', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$body$
"""

GUARD_MONTH = """
CREATE FUNCTION {schema}.fleet_guard_month(month regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = month AND tgname = 'append_only_statement') THEN
        EXECUTE format(
            'CREATE TRIGGER append_only_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON %s'
            ' FOR EACH STATEMENT EXECUTE FUNCTION {schema}.fleet_refuse_change()', month);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only_statement', month);
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'sessionfleet_app') THEN
        EXECUTE format('REVOKE ALL ON %s FROM sessionfleet_app', month);
        EXECUTE format('GRANT SELECT, INSERT ON %s TO sessionfleet_app', month);
    END IF;
END
$body$
"""

# One place decides what "covered" means: the catalogue's bounds, never a name. A taken name (an unrelated
# table, or this month detached earlier) must not stop an insert, so the new table takes the next free one.
ENSURE_MONTH = """
CREATE FUNCTION {schema}.fleet_ensure_month(parent text, at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
AS $body$
DECLARE
    home constant text := {schema_literal};
    first_instant constant timestamptz := date_trunc('month', at);
    next_instant constant timestamptz := date_trunc('month', at) + interval '1 month';
    key_column name;
    parent_oid oid;
    month text;
    copies int := 1;
    waited bool := false;
    covering record;
BEGIN
    IF parent IS NULL OR parent NOT IN ('session_events', 'audit_events') THEN
        RAISE EXCEPTION 'fleet_ensure_month: % has no months', coalesce(parent, 'NULL')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF at IS NULL OR at < '2000-01-01' OR at >= now() + interval '10 years' THEN
        RAISE EXCEPTION 'fleet_ensure_month: % is not between 2000 and ten years from now',
            coalesce(at::text, 'NULL') USING ERRCODE = 'datetime_field_overflow';
    END IF;
    SELECT t.partrelid, a.attname INTO STRICT parent_oid, key_column
    FROM pg_partitioned_table t
    JOIN pg_class c ON c.oid = t.partrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = t.partrelid AND a.attnum = t.partattrs[0]
    WHERE n.nspname = home AND c.relname = parent;

    LOOP
        SELECT c.relname AS name, i.inhdetachpending AS pending INTO covering
        FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid
        CROSS JOIN LATERAL (
            SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM [(](.*)[)] TO [(](.*)[)]')
        ) AS bound (ends)
        WHERE i.inhparent = parent_oid
          AND CASE ends[1] WHEN 'MINVALUE' THEN true ELSE at >= btrim(ends[1], '''')::timestamptz END
          AND CASE ends[2] WHEN 'MAXVALUE' THEN true ELSE at < btrim(ends[2], '''')::timestamptz END;
        IF covering.pending THEN
            RAISE EXCEPTION '%.% is half detached and keeps its range', home, covering.name
                USING ERRCODE = 'object_in_use', HINT = 'maintenance.partition_maintain finalizes it.';
        END IF;
        IF covering.name IS NOT NULL THEN
            RETURN NULL;
        END IF;
        EXIT WHEN waited;
        PERFORM pg_advisory_xact_lock(hashtextextended('fleet_ensure_month', parent_oid::bigint));
        waited := true;
    END LOOP;

    month := parent || to_char(first_instant, '_YYYY_MM');
    WHILE to_regclass(format('%I.%I', home, month)) IS NOT NULL LOOP
        copies := copies + 1;
        month := parent || to_char(first_instant, '_YYYY_MM_') || copies;
    END LOOP;
    EXECUTE format(
        'CREATE TABLE %1$I.%2$I (LIKE %1$I.%3$I INCLUDING ALL EXCLUDING IDENTITY,'
        ' CONSTRAINT fleet_month CHECK (%4$I >= %5$L AND %4$I < %6$L))',
        home, month, parent, key_column, first_instant, next_instant);
    EXECUTE format('COMMENT ON TABLE %I.%I IS %L', home, month,
        format('fleet month of %s: %s to %s', parent, first_instant, next_instant));
    IF parent = 'audit_events' THEN
        PERFORM {schema}.fleet_guard_month(format('%I.%I', home, month)::regclass);
    END IF;
    EXECUTE format('ALTER TABLE %1$I.%3$I ATTACH PARTITION %1$I.%2$I FOR VALUES FROM (%4$L) TO (%5$L)',
        home, month, parent, first_instant, next_instant);
    EXECUTE format('ALTER TABLE %I.%I DROP CONSTRAINT fleet_month', home, month);
    RETURN month;
END
$body$
"""

# Several databases of one cluster may migrate at once, and shared catalogues know no advisory lock across
# databases: "already exists" and "tuple concurrently updated" mean that somebody else did the same.
CREATE_ROLE = """
DO $body$
DECLARE
    may_switch constant text :=
        CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    FOR attempt IN 1..5 LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sessionfleet_app') THEN
                CREATE ROLE sessionfleet_app NOLOGIN;
            END IF;
            IF NOT pg_has_role('sessionfleet_app', may_switch) THEN
                GRANT sessionfleet_app TO CURRENT_USER;
            END IF;
            RETURN;
        EXCEPTION
            WHEN duplicate_object OR unique_violation OR internal_error THEN
                NULL;
            WHEN insufficient_privilege THEN
                RAISE NOTICE '% may not create or grant the role sessionfleet_app:'
                    ' only triggers protect audit_events', current_user;
                RETURN;
        END;
    END LOOP;
END
$body$
"""

GRANT_APP = """
CREATE FUNCTION {schema}.fleet_grant_app() RETURNS bool
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    home constant text := {schema_literal};
    statement text;
    read_only regclass;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sessionfleet_app') THEN
        RETURN false;
    END IF;
    FOREACH statement IN ARRAY ARRAY[
        'GRANT USAGE ON SCHEMA %I TO sessionfleet_app',
        'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO sessionfleet_app',
        'GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %I TO sessionfleet_app',
        'ALTER DEFAULT PRIVILEGES IN SCHEMA %I'
            ' GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO sessionfleet_app',
        'ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT USAGE, SELECT ON SEQUENCES TO sessionfleet_app'
    ] LOOP
        EXECUTE format(statement, home);
    END LOOP;
    FOR read_only IN
        SELECT format('%I.%I', home, 'audit_events')::regclass
        UNION ALL
        SELECT tgrelid::regclass FROM pg_trigger
        WHERE tgfoid = '{schema}.fleet_refuse_change'::regproc AND tgname = 'append_only_statement'
    LOOP
        PERFORM {schema}.fleet_guard_month(read_only);
    END LOOP;
    IF to_regclass(format('%I.alembic_version', home)) IS NOT NULL THEN
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON %I.alembic_version FROM sessionfleet_app', home);
    END IF;
    GRANT EXECUTE ON FUNCTION {schema}.fleet_ensure_month(text, timestamptz) TO sessionfleet_app;
    RETURN true;
END
$body$
"""

# Months that a downgrade left without their triggers, attached or detached, are known by their comment.
GUARD_ALL = """
SELECT {schema}.fleet_guard_month(c.oid::regclass)
FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = {schema_literal}::regnamespace
  AND (obj_description(c.oid, 'pg_class') LIKE 'fleet month of audit_events:%'
       OR c.oid IN (SELECT relid FROM pg_partition_tree('{schema}.audit_events')))
"""

REVOKE_APP = """
DO $body$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'sessionfleet_app') THEN
        ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} REVOKE ALL ON TABLES FROM sessionfleet_app;
        ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} REVOKE ALL ON SEQUENCES FROM sessionfleet_app;
        REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM sessionfleet_app;
        REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM sessionfleet_app;
        REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {schema} FROM sessionfleet_app;
        REVOKE ALL ON SCHEMA {schema} FROM sessionfleet_app;
    END IF;
END
$body$
"""


def upgrade() -> None:
    run(REFUSE_CHANGE)
    run(GUARD_MONTH)
    run(ENSURE_MONTH)
    for function in ("fleet_guard_month(regclass)", "fleet_ensure_month(text, timestamptz)"):
        run(f"REVOKE ALL ON FUNCTION {{schema}}.{function} FROM PUBLIC")
    run(
        "CREATE TRIGGER append_only_row BEFORE UPDATE OR DELETE ON {schema}.audit_events"
        " FOR EACH ROW EXECUTE FUNCTION {schema}.fleet_refuse_change()"
    )
    run("ALTER TABLE {schema}.audit_events ENABLE ALWAYS TRIGGER append_only_row")
    run(CREATE_ROLE)
    run(GRANT_APP)
    run("REVOKE ALL ON FUNCTION {schema}.fleet_grant_app() FROM PUBLIC")
    run(GUARD_ALL)
    run("SELECT {schema}.fleet_grant_app()")


def downgrade() -> None:
    run(REVOKE_APP)
    run("DROP FUNCTION {schema}.fleet_grant_app()")
    run("DROP FUNCTION {schema}.fleet_ensure_month(text, timestamptz)")
    run("DROP FUNCTION {schema}.fleet_guard_month(regclass)")
    run("DROP FUNCTION {schema}.fleet_refuse_change() CASCADE")  # with its triggers, wherever they are


def run(statement: str) -> None:
    """One statement, with ``{schema}`` and ``{schema_literal}`` for the schema this migration runs in."""
    connection = op.get_bind()
    schema, literal = connection.exec_driver_sql(
        "SELECT quote_ident(current_schema()), quote_literal(current_schema())"
    ).one()
    connection.exec_driver_sql(
        statement.replace("{schema_literal}", literal).replace("{schema}", schema),
        execution_options={"no_parameters": True},  # percent signs are the functions' own
    )
