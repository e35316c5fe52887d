-- What entries are searched by, once they are linked: their writers do not pay for its indexes, the sealer does. A trigger
-- writes it, so it is complete whichever release links. PostgreSQL has no index of longer texts than some 2,700 bytes.
CREATE TABLE audit_search (
    tenant_id     TEXT   NOT NULL,
    number        BIGINT NOT NULL,
    actor         TEXT   NOT NULL,
    action        TEXT   NOT NULL,
    resource_type TEXT   NOT NULL,
    resource_id   TEXT   NOT NULL,
    PRIMARY KEY (tenant_id, number)
) WITHOUT ROWID;

CREATE TRIGGER audit_link_search_add AFTER INSERT ON audit_link
BEGIN
    INSERT OR REPLACE INTO audit_search (tenant_id, number, actor, action, resource_type, resource_id)
    SELECT NEW.tenant_id, NEW.number, entry.actor, entry.action, entry.resource_type, substr(entry.resource_id, 1, 500)
    FROM audit_entry AS entry WHERE entry.id = NEW.entry_id;
END;
CREATE TRIGGER audit_link_search_delete AFTER DELETE ON audit_link
BEGIN
    DELETE FROM audit_search WHERE tenant_id = OLD.tenant_id AND number = OLD.number;
END;

INSERT INTO audit_search (tenant_id, number, actor, action, resource_type, resource_id)
SELECT link.tenant_id, link.number, entry.actor, entry.action, entry.resource_type, substr(entry.resource_id, 1, 500)
FROM audit_link AS link JOIN audit_entry AS entry ON entry.id = link.entry_id;

CREATE INDEX audit_search_by_actor ON audit_search (tenant_id, actor, number);
CREATE INDEX audit_search_by_action ON audit_search (tenant_id, action, number);
CREATE INDEX audit_search_by_type ON audit_search (tenant_id, resource_type, number);
CREATE INDEX audit_search_by_resource ON audit_search (tenant_id, resource_id, number);
