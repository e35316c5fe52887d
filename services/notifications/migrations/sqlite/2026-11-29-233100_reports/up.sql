-- Calls by which relays reported what became of mails, so that none has its effect twice.
CREATE TABLE notification_report (
    tenant_id   TEXT      NOT NULL,
    -- What the relay calls it: `webhook-id`.
    id          TEXT      NOT NULL,
    received_at TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX notification_report_by_age ON notification_report (received_at);
