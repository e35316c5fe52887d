DROP TABLE notification_call;
DROP TABLE notification_lane;
