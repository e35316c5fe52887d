-- One delivery of a message for each endpoint; also finds the deliveries of a message.
CREATE UNIQUE INDEX CONCURRENTLY webhook_delivery_once ON webhook_delivery (tenant_id, message_id, endpoint_id);
