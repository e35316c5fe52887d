-- What a change of one user, one service account or one role reads, however many there are.
CREATE INDEX api_keys_by_user ON api_keys (user_id);
CREATE INDEX api_keys_by_service_account ON api_keys (service_account_id);
CREATE INDEX role_bindings_by_role ON role_bindings (tenant_id, role_id);
