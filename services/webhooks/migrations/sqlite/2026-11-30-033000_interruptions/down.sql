ALTER TABLE webhook_delivery DROP COLUMN interruptions;
