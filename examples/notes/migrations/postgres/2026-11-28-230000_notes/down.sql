DROP TABLE note_tag;
DROP TABLE note;
