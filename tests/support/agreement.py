"""Rules that the rows of a session keep, whatever happened (invariants 2, 3, 6 and 8)."""

from __future__ import annotations

CHECKS = {
    "seq runs from 1 to last_seq without gap": """
        SELECT s.id FROM sessions s LEFT JOIN session_events e ON e.session_id = s.id WHERE s.owner_id = :mark
        GROUP BY s.id HAVING count(e.seq) <> s.last_seq OR count(DISTINCT e.seq) <> s.last_seq
        OR min(e.seq) <> 1 OR max(e.seq) <> s.last_seq
    """,
    "events are in order of time": """
        SELECT s.id FROM sessions s JOIN session_events e ON e.session_id = s.id
        JOIN session_events f ON f.session_id = s.id AND f.seq = e.seq + 1
        WHERE s.owner_id = :mark AND (f.created_at < e.created_at OR (f.xid, f.id) <= (e.xid, e.id))
    """,
    "versions of update events lead from one to the next": """
        SELECT s.id FROM sessions s, LATERAL (
            SELECT (e.metadata ->> 'version_from')::int AS f, (e.metadata ->> 'version_to')::int AS t,
                lag((e.metadata ->> 'version_to')::int, 1, 0) OVER (ORDER BY e.seq) AS before, e.seq
            FROM session_events e WHERE e.session_id = s.id AND e.metadata ? 'version_to'
        ) AS v WHERE s.owner_id = :mark AND (v.f <> v.before OR v.t <> v.f + 1)
    """,
    "the last version is the session's": """
        SELECT s.id FROM sessions s WHERE s.owner_id = :mark AND s.state_version <> (
            SELECT max((e.metadata ->> 'version_to')::int) FROM session_events e WHERE e.session_id = s.id)
    """,
    "transitions are a chain that ends at the status": """
        SELECT s.id FROM sessions s, LATERAL (
            SELECT t.from_status, t.to_status, lag(t.to_status) OVER (ORDER BY t.seq) AS before,
                row_number() OVER (ORDER BY t.seq DESC) AS place
            FROM session_transitions t WHERE t.session_id = s.id
        ) AS c WHERE s.owner_id = :mark
        AND (c.from_status IS DISTINCT FROM c.before OR (c.place = 1 AND c.to_status <> s.status))
    """,
    "each transition has its event at its seq": """
        SELECT s.id FROM sessions s JOIN session_transitions t ON t.session_id = s.id
        LEFT JOIN session_events e ON e.session_id = s.id AND e.seq = t.seq
        WHERE s.owner_id = :mark AND (e.created_at IS DISTINCT FROM t.at OR e.task_id IS DISTINCT FROM t.task_id)
    """,
    "chunks are numbered and begin where those before them end; only what is beyond the buffer is gone": """
        SELECT s.id FROM sessions s, LATERAL (
            SELECT count(*) AS n, min(chunk_no) AS first, max(chunk_no) AS last,
                min(start_bytes) AS gone_bytes, min(start_lines) AS gone_lines,
                coalesce(sum(bytes), 0) AS bytes, bool_and(start_bytes = ends_before) AS joined
            FROM (SELECT *, coalesce(lag(start_bytes + bytes) OVER (ORDER BY chunk_no), start_bytes) AS ends_before
                FROM session_output WHERE session_id = s.id) AS chunk
        ) AS o WHERE s.owner_id = :mark AND s.last_chunk + o.n > 0
        AND (o.n IS DISTINCT FROM o.last - o.first + 1 OR o.last IS DISTINCT FROM s.last_chunk
            OR o.gone_bytes + o.bytes <> s.output_bytes OR NOT o.joined OR (o.first = 1) <> (o.gone_bytes = 0)
            OR (o.first > 1 AND s.output_lines - o.gone_lines < 1000))
    """,
    "every event has an audit row of its instant": """
        SELECT s.id FROM sessions s JOIN session_events e ON e.session_id = s.id WHERE s.owner_id = :mark
        AND NOT EXISTS (SELECT FROM audit_events a WHERE a.session_id = s.id AND a.timestamp = e.created_at
            AND a.event_type = replace(e.event_name, '.', '_') AND a.metadata ->> 'task_id' = e.task_id)
    """,
    "ended is ended": """
        SELECT id FROM sessions WHERE owner_id = :mark
        AND (status = ANY (:terminal)) <> (ended_at IS NOT NULL AND end_reason IS NOT NULL AND next_check_at IS NULL)
    """,
    "live has a deadline that somebody looks at in time": """
        SELECT id FROM sessions WHERE owner_id = :mark AND status <> ALL (:terminal)
        AND (next_check_at IS NULL OR next_check_at > expires_at OR expires_at < last_activity)
    """,
    "the numbers of all sessions are as many as there are": """
        SELECT status FROM (
            SELECT status, archived_at IS NOT NULL AS archived, 1 AS change FROM sessions WHERE deleted_at IS NULL
            UNION ALL SELECT status, archived, -change FROM session_counts
        ) AS missing WHERE CAST(:mark AS text) IS NOT NULL GROUP BY status, archived HAVING sum(change) <> 0
    """,
}
"""Rule -> statement that finds the sessions of owner ``:mark`` that break it; ``:terminal``: terminal statuses."""
