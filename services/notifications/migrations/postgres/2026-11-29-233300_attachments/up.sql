-- Files that the mails of a notification have attached to them. The bytes are with the service of files.
CREATE TABLE notification_attachment (
    tenant_id       uuid    NOT NULL,
    notification_id uuid    NOT NULL,
    -- From 1 on.
    number          integer NOT NULL,
    file_id         uuid    NOT NULL,
    PRIMARY KEY (tenant_id, notification_id, number),
    FOREIGN KEY (tenant_id, notification_id) REFERENCES notification (tenant_id, id) ON DELETE CASCADE
);

ALTER TABLE notification_attachment ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_attachment FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_attachment
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
