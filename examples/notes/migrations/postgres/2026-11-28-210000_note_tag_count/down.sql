DROP TABLE note_tag_count;
