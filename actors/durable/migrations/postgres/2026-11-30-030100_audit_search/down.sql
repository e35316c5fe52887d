DROP TRIGGER search_delete ON audit_link;
DROP TRIGGER search_add ON audit_link;
DROP FUNCTION audit_search_delete();
DROP FUNCTION audit_search_add();
DROP TABLE audit_search;
