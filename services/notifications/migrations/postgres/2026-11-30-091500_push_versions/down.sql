ALTER TABLE notification_push_subscription DROP COLUMN version;
