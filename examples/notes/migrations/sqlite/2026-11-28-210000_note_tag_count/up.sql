-- How often each tag was given: what the subscriber `notes.tags` counts.
CREATE TABLE note_tag_count (
    tenant_id TEXT   NOT NULL,
    tag       TEXT   NOT NULL,
    notes     BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, tag)
);
