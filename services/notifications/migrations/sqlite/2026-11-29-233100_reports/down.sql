DROP TABLE notification_report;
