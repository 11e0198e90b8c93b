-- The table of runtime-idempotency, for PostgreSQL 12 and later. response_code is null while a request is pending;
-- created_at is the start of its lease and tells its attempt from others.
CREATE TABLE IF NOT EXISTS api_idempotency_keys (
  scope text NOT NULL,
  idempotency_key text NOT NULL,
  request_hash text NOT NULL,
  response_code integer,
  response_body bytea,
  content_type text,
  response_headers jsonb,
  created_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  completed_at timestamp with time zone,
  PRIMARY KEY (scope, idempotency_key)
);

-- For the removal of expired rows.
CREATE INDEX IF NOT EXISTS api_idempotency_keys_expires_at ON api_idempotency_keys (expires_at);
