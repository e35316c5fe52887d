-- Permissions that a principal has without a role.
CREATE TABLE grants (
    id                 TEXT      PRIMARY KEY,
    tenant_id          TEXT      NOT NULL,
    user_id            TEXT,
    service_account_id TEXT,
    permission         TEXT      NOT NULL,
    granted_by         TEXT      NOT NULL,
    created_at         TIMESTAMP NOT NULL,
    expires_at         TIMESTAMP,
    CHECK ((user_id IS NULL) <> (service_account_id IS NULL)),
    UNIQUE (tenant_id, user_id, permission),
    UNIQUE (tenant_id, service_account_id, permission),
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, service_account_id) REFERENCES service_accounts (tenant_id, id) ON DELETE CASCADE
);
