DROP TABLE notification_attachment;
