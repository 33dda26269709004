"""pre: the first tables - sessions, their events, history, output, audit, stored answers, relay.

Revision ID: 0001_pre_base
Revises: (none)

`session_events` and `audit_events` are parents only; their months come with the next revision.
"""

from alembic import op

revision = "0001_pre_base"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE agents (
        agent_id TEXT NOT NULL,
        status TEXT NOT NULL,
        metadata JSONB NOT NULL,
        registered_at TIMESTAMP WITH TIME ZONE NOT NULL,
        last_heartbeat TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_agents PRIMARY KEY (agent_id),
        CONSTRAINT ck_agents_status CHECK (status IN ('active', 'busy', 'idle', 'maintenance'))
    )
    """,
    """
    CREATE TABLE audit_events (
        event_id UUID NOT NULL,
        timestamp TIMESTAMP WITH TIME ZONE NOT NULL,
        session_id UUID,
        event_type TEXT NOT NULL,
        actor TEXT,
        action TEXT NOT NULL,
        resource TEXT NOT NULL,
        metadata JSONB NOT NULL,
        CONSTRAINT pk_audit_events PRIMARY KEY (event_id, timestamp)
    )
     PARTITION BY RANGE ("timestamp")
    """,
    "CREATE INDEX ix_audit_events_actor_timestamp ON audit_events (actor, timestamp)",
    "CREATE INDEX ix_audit_events_event_type_timestamp ON audit_events (event_type, timestamp)",
    "CREATE INDEX ix_audit_events_metadata ON audit_events USING gin (metadata)",
    "CREATE INDEX ix_audit_events_resource_timestamp ON audit_events (resource, timestamp)",
    "CREATE INDEX ix_audit_events_session_id_timestamp ON audit_events (session_id, timestamp)",
    "CREATE INDEX ix_audit_events_timestamp ON audit_events (timestamp)",
    """
    CREATE TABLE event_dead_letters (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        event_id UUID,
        original_subject TEXT NOT NULL,
        failure_reason TEXT NOT NULL,
        deliveries INTEGER NOT NULL,
        envelope JSONB NOT NULL,
        dlq_timestamp TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT pk_event_dead_letters PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX ix_event_dead_letters_dlq_timestamp ON event_dead_letters (dlq_timestamp)",
    """
    CREATE TABLE idempotency_keys (
        key TEXT NOT NULL,
        operation TEXT NOT NULL,
        task_id TEXT NOT NULL,
        body_hash TEXT NOT NULL,
        answer JSONB NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_idempotency_keys PRIMARY KEY (key)
    )
    """,
    "CREATE INDEX ix_idempotency_keys_expires_at ON idempotency_keys (expires_at)",
    """
    CREATE TABLE leader_leases (
        name TEXT NOT NULL,
        holder TEXT NOT NULL,
        epoch BIGINT NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_leader_leases PRIMARY KEY (name)
    )
    """,
    """
    CREATE TABLE maintenance_log (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        duty TEXT NOT NULL,
        started_at TIMESTAMP WITH TIME ZONE NOT NULL,
        finished_at TIMESTAMP WITH TIME ZONE NOT NULL,
        result JSONB NOT NULL,
        CONSTRAINT pk_maintenance_log PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX ix_maintenance_log_duty_started_at ON maintenance_log (duty, started_at)",
    """
    CREATE TABLE outbox_failures (
        event_id UUID NOT NULL,
        retry_count INTEGER NOT NULL,
        refusals INTEGER NOT NULL,
        last_error TEXT NOT NULL,
        next_try_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_outbox_failures PRIMARY KEY (event_id)
    )
    """,
    """
    CREATE TABLE relay_cursors (
        name TEXT NOT NULL,
        xid xid8 NOT NULL,
        last_id BIGINT NOT NULL,
        high_id BIGINT NOT NULL,
        floor_id BIGINT NOT NULL,
        generation INTEGER NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_relay_cursors PRIMARY KEY (name)
    )
    """,
    """
    CREATE TABLE session_events (
        session_id UUID NOT NULL,
        seq BIGINT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        event_id UUID NOT NULL,
        event_name TEXT NOT NULL,
        event_type TEXT NOT NULL,
        actor TEXT,
        task_id TEXT,
        payload JSONB NOT NULL,
        metadata JSONB NOT NULL,
        entity_ids TEXT[] NOT NULL,
        version SMALLINT DEFAULT 1 NOT NULL,
        publish BOOLEAN DEFAULT true NOT NULL,
        xid xid8 DEFAULT event_stamp() NOT NULL,
        id BIGINT DEFAULT nextval('session_events_id_seq') NOT NULL,
        CONSTRAINT pk_session_events PRIMARY KEY (session_id, seq, created_at)
    )
     PARTITION BY RANGE (created_at)
    """,
    "CREATE INDEX ix_session_events_created_at ON session_events (created_at)",
    "CREATE INDEX ix_session_events_entity_ids ON session_events USING gin (entity_ids)",
    "CREATE INDEX ix_session_events_event_name_created_at ON session_events (event_name, created_at)",
    "CREATE INDEX ix_session_events_xid_id ON session_events (xid, id)",
    """
    CREATE TABLE session_output (
        session_id UUID NOT NULL,
        chunk_no BIGINT NOT NULL,
        stream TEXT NOT NULL,
        content TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        start_bytes BIGINT NOT NULL,
        start_lines BIGINT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_session_output PRIMARY KEY (session_id, chunk_no)
    )
    """,
    """
    CREATE TABLE session_transitions (
        session_id UUID NOT NULL,
        seq BIGINT NOT NULL,
        from_status TEXT,
        to_status TEXT NOT NULL,
        reason TEXT,
        actor TEXT,
        task_id TEXT,
        at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_session_transitions PRIMARY KEY (session_id, seq)
    )
    """,
    """
    CREATE TABLE sessions (
        id UUID NOT NULL,
        external_id TEXT NOT NULL,
        status TEXT NOT NULL,
        status_reason TEXT,
        end_reason TEXT,
        work_state TEXT,
        session_type TEXT NOT NULL,
        user_id TEXT,
        owner_id TEXT,
        agent_id TEXT,
        orchestrator_id TEXT,
        conversation_id TEXT,
        provider TEXT,
        model TEXT,
        query TEXT,
        current_directory TEXT,
        process_id BIGINT,
        runtime_backend TEXT,
        runtime_metadata JSONB NOT NULL,
        context JSONB NOT NULL,
        context_version BIGINT NOT NULL,
        metadata JSONB NOT NULL,
        checkpoint JSONB,
        account_ids TEXT[] NOT NULL,
        tags TEXT[] NOT NULL,
        priority TEXT NOT NULL,
        timeout_seconds INTEGER NOT NULL,
        max_events INTEGER NOT NULL,
        metrics JSONB NOT NULL,
        error_message TEXT,
        last_seq BIGINT NOT NULL,
        state_version BIGINT NOT NULL,
        revision BIGINT NOT NULL,
        lease_epoch BIGINT NOT NULL,
        recovery_needed BOOLEAN NOT NULL,
        recovery_type TEXT,
        recovery_count INTEGER NOT NULL,
        last_chunk BIGINT NOT NULL,
        output_bytes BIGINT NOT NULL,
        output_lines BIGINT NOT NULL,
        last_activity TIMESTAMP WITH TIME ZONE NOT NULL,
        last_heartbeat TIMESTAMP WITH TIME ZONE,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        started_at TIMESTAMP WITH TIME ZONE,
        updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
        expires_at TIMESTAMP WITH TIME ZONE,
        warned_at TIMESTAMP WITH TIME ZONE,
        warned_threshold INTEGER,
        recovered_at TIMESTAMP WITH TIME ZONE,
        ended_at TIMESTAMP WITH TIME ZONE,
        archived_at TIMESTAMP WITH TIME ZONE,
        deleted_at TIMESTAMP WITH TIME ZONE,
        next_check_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_sessions PRIMARY KEY (id),
        CONSTRAINT ck_sessions_status CHECK (status IN ('initializing', 'active', 'idle', 'waiting_input', 'paused', 'interrupted', 'crashed', 'completed', 'terminated', 'failed', 'expired')),
        CONSTRAINT ck_sessions_runtime_backend CHECK (runtime_backend IN ('local', 'kubernetes', 'unknown')),
        CONSTRAINT ck_sessions_priority CHECK (priority IN ('critical', 'high', 'medium', 'low')),
        CONSTRAINT ck_sessions_next_check_at CHECK (next_check_at <= expires_at)
    )
     WITH (fillfactor = 80)
    """,
    "CREATE INDEX ix_sessions_account_ids ON sessions USING gin (account_ids)",
    "CREATE INDEX ix_sessions_agent_id_created_at ON sessions (agent_id, created_at DESC, id DESC)",
    "CREATE INDEX ix_sessions_context ON sessions USING gin (context jsonb_path_ops)",
    "CREATE INDEX ix_sessions_created_at_id ON sessions (created_at DESC, id DESC)",
    "CREATE INDEX ix_sessions_deleted_at ON sessions (deleted_at) WHERE deleted_at IS NOT NULL",
    "CREATE INDEX ix_sessions_live_last_activity ON sessions USING brin (last_activity) WHERE status IN ('initializing', 'active', 'idle', 'waiting_input', 'paused')",
    "CREATE INDEX ix_sessions_next_check_at ON sessions (next_check_at) WHERE next_check_at IS NOT NULL",
    "CREATE INDEX ix_sessions_orchestrator_id ON sessions (orchestrator_id)",
    "CREATE INDEX ix_sessions_owner_id_created_at ON sessions (owner_id, created_at DESC, id DESC)",
    "CREATE INDEX ix_sessions_process_id ON sessions (process_id) WHERE process_id IS NOT NULL",
    "CREATE INDEX ix_sessions_recovery_needed ON sessions (recovery_needed, created_at) WHERE recovery_needed",
    "CREATE INDEX ix_sessions_status_created_at ON sessions (status, created_at DESC, id DESC)",
    "CREATE INDEX ix_sessions_tags ON sessions USING gin (tags)",
    "CREATE INDEX ix_sessions_updated_at ON sessions USING brin (updated_at)",
    "CREATE INDEX ix_sessions_user_id_created_at ON sessions (user_id, created_at DESC, id DESC)",
    "CREATE UNIQUE INDEX uq_sessions_external_id ON sessions (external_id) WHERE deleted_at IS NULL",
)

# A transaction that waited for a row lock may be older, by number, than the one that held it. The
# newest transaction that has ended, read when the lock is held, keeps (xid, id) in seq order all the
# same; a function of its own takes a new snapshot even inside one long statement.
STAMP_FUNCTION = """
    CREATE FUNCTION event_stamp() RETURNS xid8 LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        RETURN greatest(
            pg_current_xact_id(),
            (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)::text::xid8
        );
    END $$
"""

DEADLINE_FUNCTION = """
    CREATE FUNCTION sessions_deadline() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        -- Activity moved back by hand takes the deadline along.
        IF NEW.last_activity < OLD.last_activity AND NEW.expires_at IS NOT DISTINCT FROM OLD.expires_at THEN
            NEW.expires_at := NEW.expires_at - (OLD.last_activity - NEW.last_activity);
        END IF;
        -- So does the check date: a warning is due as much earlier as the deadline.
        IF NEW.next_check_at IS NOT DISTINCT FROM OLD.next_check_at THEN
            NEW.next_check_at := NEW.next_check_at - GREATEST(OLD.expires_at - NEW.expires_at, INTERVAL '0');
        END IF;
        IF NEW.next_check_at IS NOT NULL THEN
            NEW.next_check_at := LEAST(NEW.next_check_at, NEW.expires_at);
        END IF;
        RETURN NEW;
    END $$
"""

# Fires only when an instant moves back, so ordinary activity pays for one comparison.
DEADLINE_TRIGGER = """
    CREATE TRIGGER sessions_deadline BEFORE UPDATE OF expires_at, last_activity ON sessions
    FOR EACH ROW WHEN (NEW.expires_at < OLD.expires_at OR NEW.last_activity < OLD.last_activity)
    EXECUTE FUNCTION sessions_deadline()
"""


def upgrade() -> None:
    # No cache: numbers a connection keeps for later would break the order inside equal stamps.
    op.execute("CREATE SEQUENCE session_events_id_seq CACHE 1")
    op.execute(STAMP_FUNCTION)
    for statement in TABLES:
        op.execute(statement)
    op.execute(DEADLINE_FUNCTION)
    op.execute(DEADLINE_TRIGGER)


def downgrade() -> None:
    for table in (
        "sessions",
        "session_transitions",
        "session_output",
        "session_events",
        "relay_cursors",
        "outbox_failures",
        "maintenance_log",
        "leader_leases",
        "idempotency_keys",
        "event_dead_letters",
        "audit_events",
        "agents",
    ):
        op.execute(f"DROP TABLE {table} CASCADE")
    op.execute("DROP FUNCTION sessions_deadline()")
    op.execute("DROP FUNCTION event_stamp()")
    op.execute("DROP SEQUENCE session_events_id_seq")
