-- For reports by `Message-ID`, which name no tenant.
CREATE INDEX notification_delivery_by_id ON notification_delivery (id);
