-- How often each tag was given: what the subscriber `notes.tags` counts.
CREATE TABLE note_tag_count (
    tenant_id uuid   NOT NULL,
    tag       text   NOT NULL,
    notes     bigint NOT NULL,
    PRIMARY KEY (tenant_id, tag)
);

ALTER TABLE note_tag_count ENABLE ROW LEVEL SECURITY;
ALTER TABLE note_tag_count FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON note_tag_count
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
