CREATE TABLE note (
    tenant_id  uuid      NOT NULL,
    id         uuid      NOT NULL,
    text       text      NOT NULL,
    version    bigint    NOT NULL,
    created_at timestamp NOT NULL,
    updated_at timestamp NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
-- For the worker that deletes old notes, whosever they are.
CREATE INDEX note_by_age ON note (created_at);

CREATE TABLE note_tag (
    tenant_id uuid NOT NULL,
    note_id   uuid NOT NULL,
    tag       text NOT NULL,
    PRIMARY KEY (tenant_id, note_id, tag),
    FOREIGN KEY (tenant_id, note_id) REFERENCES note (tenant_id, id) ON DELETE CASCADE
);

-- The last line: a query that forgets its tenant sees nothing. FORCE is for the owner of the table, which the daemon is.
ALTER TABLE note ENABLE ROW LEVEL SECURITY;
ALTER TABLE note FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON note
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
ALTER TABLE note_tag ENABLE ROW LEVEL SECURITY;
ALTER TABLE note_tag FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON note_tag
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
