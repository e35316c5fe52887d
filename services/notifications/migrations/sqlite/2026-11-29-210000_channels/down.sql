DROP TABLE notification_digest_member;
DROP TABLE notification_digest;
DROP TABLE notification_quiet_hours;
DROP TABLE notification_push_subscription;
