-- Files that the mails of a notification have attached to them. The bytes are with the service of files.
CREATE TABLE notification_attachment (
    tenant_id       TEXT    NOT NULL,
    notification_id TEXT    NOT NULL,
    -- From 1 on.
    number          INTEGER NOT NULL,
    file_id         TEXT    NOT NULL,
    PRIMARY KEY (tenant_id, notification_id, number),
    FOREIGN KEY (tenant_id, notification_id) REFERENCES notification (tenant_id, id) ON DELETE CASCADE
);
