-- The two tables of the change journal, for tests and as a start for a service's own migration. Ids may be uuid or text,
-- metadata and payload json, jsonb or text, times timestamptz or timestamp (then UTC).
CREATE TABLE IF NOT EXISTS audit_entries (
  id uuid PRIMARY KEY,
  organization_id text NOT NULL,
  actor_type text NOT NULL,
  actor_id text,
  action text NOT NULL,
  resource_type text NOT NULL,
  resource_id text,
  metadata jsonb NOT NULL,
  created_at timestamptz NOT NULL,
  -- For JournalReader.auditEntries alone; a table that has no readers can do without.
  seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE
);

CREATE INDEX IF NOT EXISTS audit_entries_resource ON audit_entries (organization_id, resource_type, resource_id, created_at);

CREATE TABLE IF NOT EXISTS change_journal (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  organization_id text NOT NULL,
  aggregate_type text NOT NULL,
  aggregate_id text,
  operation text NOT NULL,
  actor_type text NOT NULL,
  actor_id text,
  aggregate_version bigint NOT NULL,
  recorded_at timestamptz NOT NULL,
  payload jsonb NOT NULL
);

CREATE INDEX IF NOT EXISTS change_journal_aggregate ON change_journal (organization_id, aggregate_type, aggregate_id, seq);
