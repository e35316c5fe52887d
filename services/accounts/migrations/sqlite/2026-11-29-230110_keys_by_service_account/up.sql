-- For a change of one service account, which reads its keys.
CREATE INDEX IF NOT EXISTS api_keys_by_service_account ON api_keys (service_account_id);
