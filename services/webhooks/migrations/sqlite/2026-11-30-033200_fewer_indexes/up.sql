-- Each index is written twice for a delivery, when it is claimed and when it ends.
DROP INDEX webhook_delivery_of_message;
-- Claimed deliveries are few, and `webhook_delivery_sending` finds them.
DROP INDEX webhook_delivery_leased;
-- Attempts are deleted with their delivery.
DROP INDEX webhook_attempt_by_age;
