CREATE INDEX webhook_attempt_by_age ON webhook_attempt (at);
CREATE INDEX webhook_delivery_leased ON webhook_delivery (leased_until) WHERE state = 'sending';
CREATE INDEX webhook_delivery_of_message ON webhook_delivery (tenant_id, message_id);
