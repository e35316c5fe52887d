CREATE INDEX webhook_attempt_by_age ON webhook_attempt (at);
CREATE INDEX webhook_delivery_leased ON webhook_delivery (leased_until) WHERE state = 'sending';
CREATE INDEX webhook_delivery_of_message ON webhook_delivery (tenant_id, message_id);
ALTER TABLE webhook_delivery ADD CONSTRAINT webhook_delivery_tenant_id_endpoint_id_message_id_key
    UNIQUE (tenant_id, endpoint_id, message_id);
