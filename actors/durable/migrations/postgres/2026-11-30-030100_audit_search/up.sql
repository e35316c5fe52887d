-- What entries are searched by, once they are linked: their writers do not pay for its indexes, the sealer does. A trigger
-- writes it, so it is complete whichever release links. An index has no longer texts than of some 2,700 bytes.
CREATE TABLE audit_search (
    tenant_id     uuid   NOT NULL,
    number        bigint NOT NULL,
    actor         text   NOT NULL,
    action        text   NOT NULL,
    resource_type text   NOT NULL,
    resource_id   text   NOT NULL,
    PRIMARY KEY (tenant_id, number)
);

CREATE FUNCTION audit_search_add() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_search (tenant_id, number, actor, action, resource_type, resource_id)
    SELECT link.tenant_id, link.number, entry.actor, entry.action, entry.resource_type, left(entry.resource_id, 500)
    FROM added AS link JOIN audit_entry AS entry ON entry.id = link.entry_id
    ON CONFLICT (tenant_id, number) DO UPDATE SET actor = excluded.actor, action = excluded.action,
        resource_type = excluded.resource_type, resource_id = excluded.resource_id;
    RETURN NULL;
END $$;
CREATE FUNCTION audit_search_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM audit_search USING deleted
    WHERE audit_search.tenant_id = deleted.tenant_id AND audit_search.number = deleted.number;
    RETURN NULL;
END $$;
CREATE TRIGGER search_add AFTER INSERT ON audit_link REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION audit_search_add();
CREATE TRIGGER search_delete AFTER DELETE ON audit_link REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT EXECUTE FUNCTION audit_search_delete();

-- Row-level security holds for the owner of the tables too.
SELECT set_config('dotmac.tenant_id', '*', true);
INSERT INTO audit_search (tenant_id, number, actor, action, resource_type, resource_id)
SELECT link.tenant_id, link.number, entry.actor, entry.action, entry.resource_type, left(entry.resource_id, 500)
FROM audit_link AS link JOIN audit_entry AS entry ON entry.id = link.entry_id;

CREATE INDEX audit_search_by_actor ON audit_search (tenant_id, actor, number);
CREATE INDEX audit_search_by_action ON audit_search (tenant_id, action, number);
CREATE INDEX audit_search_by_type ON audit_search (tenant_id, resource_type, number);
CREATE INDEX audit_search_by_resource ON audit_search (tenant_id, resource_id, number);

ALTER TABLE audit_search ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_search FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit_search USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
