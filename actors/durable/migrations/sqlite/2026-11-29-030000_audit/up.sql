-- The audit log: rows are written in the transaction of the act, and never changed. SQLite has one writer, so the order
-- of row ids is the order of commits. Those of the system have the nil id as their tenant.
CREATE TABLE audit_entry (
    xid           BIGINT    NOT NULL DEFAULT 0,
    position      INTEGER   NOT NULL PRIMARY KEY AUTOINCREMENT,
    id            TEXT      NOT NULL UNIQUE,
    tenant_id     TEXT      NOT NULL,
    at            TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')),
    actor         TEXT      NOT NULL,
    action        TEXT      NOT NULL,
    resource_type TEXT      NOT NULL,
    resource_id   TEXT      NOT NULL,
    outcome       TEXT      NOT NULL,
    reason        TEXT,
    details       JSON      NOT NULL,
    subject       TEXT,
    personal      BLOB,
    trace_id      TEXT
);
CREATE INDEX audit_entry_of_tenant ON audit_entry (tenant_id, at);

-- The chain of each tenant: link after link, in the order of commits.
CREATE TABLE audit_link (
    tenant_id TEXT   NOT NULL,
    number    BIGINT NOT NULL,
    entry_id  TEXT   NOT NULL UNIQUE,
    hash      BLOB   NOT NULL,
    PRIMARY KEY (tenant_id, number)
);

-- Where each chain begins, behind what retention has taken away, and where it ends.
CREATE TABLE audit_chain (
    tenant_id     TEXT      NOT NULL PRIMARY KEY,
    start         BIGINT    NOT NULL CHECK (start >= 0),
    number        BIGINT    NOT NULL CHECK (number >= 0),
    hash          BLOB      NOT NULL,
    checked       BIGINT    NOT NULL CHECK (checked >= 0),
    checked_at    TIMESTAMP NOT NULL
);
CREATE INDEX audit_chain_unchecked ON audit_chain (checked_at) WHERE number > checked;

-- What the hash of a link was at some moment, signed. `previous` is the hash of the checkpoint before it.
CREATE TABLE audit_checkpoint (
    tenant_id TEXT      NOT NULL,
    number    BIGINT    NOT NULL,
    hash      BLOB      NOT NULL,
    previous  BLOB,
    at        TIMESTAMP NOT NULL,
    key_id    TEXT,
    signature BLOB,
    PRIMARY KEY (tenant_id, number)
);
CREATE INDEX audit_checkpoint_by_time ON audit_checkpoint (at);

-- Keys that personal fields of entries are encrypted with: one for each person of a tenant, itself sealed.
CREATE TABLE audit_subject (
    id        TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    subject   TEXT NOT NULL,
    key       BLOB NOT NULL,
    UNIQUE (tenant_id, subject)
);

-- The keys that checkpoints are signed with, sealed.
CREATE TABLE audit_key (
    id   TEXT NOT NULL PRIMARY KEY,
    seed BLOB NOT NULL
);

-- Behind which entry the sealer goes on, and the register: what it has signed of all chains. One row.
CREATE TABLE audit_sealer (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    xid      BIGINT  NOT NULL,
    position BIGINT  NOT NULL,
    register TEXT
);
INSERT INTO audit_sealer (id, xid, position) VALUES (1, 0, 0);

CREATE TRIGGER audit_entry_append_only BEFORE UPDATE ON audit_entry
BEGIN SELECT RAISE(ABORT, 'rows of audit_entry are never changed'); END;
CREATE TRIGGER audit_link_append_only BEFORE UPDATE ON audit_link
BEGIN SELECT RAISE(ABORT, 'rows of audit_link are never changed'); END;
CREATE TRIGGER audit_checkpoint_append_only BEFORE UPDATE ON audit_checkpoint
BEGIN SELECT RAISE(ABORT, 'rows of audit_checkpoint are never changed'); END;
