DROP TABLE runtime_journal;
