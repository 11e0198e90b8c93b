-- As a service in Go may have made it: no response_headers, other text types, defaults in place of null, a unique index
-- in the other order.
CREATE TABLE api_idempotency_keys (
  id bigserial PRIMARY KEY,
  scope varchar(2000) NOT NULL,
  idempotency_key varchar(255) NOT NULL,
  request_hash varchar(64) NOT NULL,
  response_code smallint,
  response_body bytea NOT NULL DEFAULT '',
  content_type varchar(200) NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  completed_at timestamptz
);
CREATE UNIQUE INDEX api_idempotency_keys_key ON api_idempotency_keys (idempotency_key, scope);
