-- Grows each time that a browser subscribes again, which keeps its id: what `If-Match` names.
ALTER TABLE notification_push_subscription ADD COLUMN version bigint NOT NULL DEFAULT 1;
