DROP TABLE notification_template_version;
DROP TABLE notification_template;
DROP TABLE notification_suppression;
DROP TABLE notification_preference;
DROP TABLE notification_inbox;
DROP TABLE notification_attempt;
DROP TABLE notification_delivery;
DROP TABLE notification;
