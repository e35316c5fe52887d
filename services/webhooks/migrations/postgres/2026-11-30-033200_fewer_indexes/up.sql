-- locks: each statement changes the catalogue alone, and reads no rows.
-- Each index is written twice for a delivery, when it is claimed and when it ends.
ALTER TABLE webhook_delivery DROP CONSTRAINT webhook_delivery_tenant_id_endpoint_id_message_id_key;
DROP INDEX webhook_delivery_of_message;
-- Claimed deliveries are few, and `webhook_delivery_sending` finds them.
DROP INDEX webhook_delivery_leased;
-- Attempts are deleted with their delivery.
DROP INDEX webhook_attempt_by_age;
