-- The tables of runtime-outbox, for tests and as a start for a service's own migration.

-- Events that wait to be published. A row goes when the broker has stored it.
CREATE TABLE IF NOT EXISTS change_outbox (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  lane text NOT NULL,
  subject text NOT NULL,
  headers text[] NOT NULL,
  body bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  attempts integer NOT NULL DEFAULT 0,
  parked_at timestamptz,
  reason text
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE INDEX IF NOT EXISTS change_outbox_parked ON change_outbox (lane) WHERE parked_at IS NOT NULL;

-- Which process publishes now.
CREATE TABLE IF NOT EXISTS change_outbox_lease (
  name text PRIMARY KEY,
  holder text NOT NULL,
  expires_at timestamptz NOT NULL
);

-- Which events a consumer has handled.
CREATE TABLE IF NOT EXISTS event_inbox (
  consumer text NOT NULL,
  event_id text NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (consumer, event_id)
);

CREATE INDEX IF NOT EXISTS event_inbox_age ON event_inbox (consumer, received_at);
