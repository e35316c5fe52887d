-- Attempts that were interrupted since the delivery was last started: they are not on the ladder, and have a limit of their own.
ALTER TABLE webhook_delivery ADD COLUMN interruptions integer NOT NULL DEFAULT 0;
