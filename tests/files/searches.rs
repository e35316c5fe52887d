//! Searches for what no name has: refused, or without a result.

use serde_json::json;

use crate::house::House;

#[tokio::test]
async fn a_search_for_what_no_name_has_is_refused() {
    House::on_both(&[], async |house| {
        house.file("name=a.txt", "a").await;
        for query in [
            "folder=a//b",
            "state=none",
            "type=image",
            "type=image/%25",
            "type=%25/*",
        ] {
            let refused = house.get(&format!("/files?{query}")).await;
            assert_eq!(
                refused.short(),
                (400, "invalid_query"),
                "{query}: {refused:?}"
            );
        }
        for query in ["q=%00", "folder=%00", "state=%00", "type=%00/*"] {
            let refused = house.get(&format!("/files?{query}")).await;
            assert!(matches!(refused.status, 400 | 422), "{query}: {refused:?}");
        }
        for query in ["q=%25", "q=_", "q=%5C", "q=a%0Ab", "q=%F0%9F%98%80"] {
            let found = house.get(&format!("/files?{query}")).await;
            assert_eq!(
                (found.status, &found.body["items"]),
                (200, &json!([])),
                "{query}"
            );
        }
    })
    .await;
}
