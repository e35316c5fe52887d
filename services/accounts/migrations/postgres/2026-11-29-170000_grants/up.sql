-- Permissions that a principal has without a role.
CREATE TABLE grants (
    id                 uuid      PRIMARY KEY,
    tenant_id          uuid      NOT NULL,
    user_id            uuid,
    service_account_id uuid,
    permission         text      NOT NULL,
    granted_by         text      NOT NULL,
    created_at         timestamp NOT NULL,
    expires_at         timestamp,
    CHECK ((user_id IS NULL) <> (service_account_id IS NULL)),
    UNIQUE (tenant_id, user_id, permission),
    UNIQUE (tenant_id, service_account_id, permission),
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, service_account_id) REFERENCES service_accounts (tenant_id, id) ON DELETE CASCADE
);

ALTER TABLE grants ENABLE ROW LEVEL SECURITY;
ALTER TABLE grants FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON grants USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
