DROP INDEX webhook_delivery_once;
