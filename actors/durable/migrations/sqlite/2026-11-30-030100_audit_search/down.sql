DROP TRIGGER audit_link_search_delete;
DROP TRIGGER audit_link_search_add;
DROP TABLE audit_search;
