-- Calls by which relays reported what became of mails, so that none has its effect twice.
CREATE TABLE notification_report (
    tenant_id   uuid      NOT NULL,
    -- What the relay calls it: `webhook-id`.
    id          text      NOT NULL,
    received_at timestamp NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX notification_report_by_age ON notification_report (received_at);

ALTER TABLE notification_report ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_report FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notification_report
    USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'));
