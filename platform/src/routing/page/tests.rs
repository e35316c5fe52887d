//! Cursors, and pages.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dotmac_db::TenantId;
use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;

fn key() -> CursorKey {
    CursorKey::new(None).expect("random bytes")
}

fn scope(tenant: TenantId) -> CursorScope<'static> {
    CursorScope {
        tenant,
        list: "notes",
        sort: "-created_at",
        filter: "tag=home",
    }
}

#[test]
fn a_cursor_is_good_for_its_own_list_only() {
    let (key, tenant) = (key(), TenantId::new());
    let scope = scope(tenant);
    let cursor = key.seal(&scope, &("2026-11-28", 7)).expect("sealed");
    assert_eq!(
        key.open(&scope, &cursor),
        Some(("2026-11-28".to_owned(), 7))
    );
    let others = [
        CursorScope {
            tenant: TenantId::new(),
            ..scope
        },
        CursorScope {
            list: "others",
            ..scope
        },
        CursorScope {
            sort: "created_at",
            ..scope
        },
        CursorScope {
            filter: "",
            ..scope
        },
        CursorScope {
            sort: "-created_attag=",
            filter: "home",
            ..scope
        },
    ];
    for other in others {
        assert_eq!(
            key.open::<(String, i64)>(&other, &cursor),
            None,
            "{other:?}"
        );
    }
    let another = self::key();
    assert_eq!(another.open::<(String, i64)>(&scope, &cursor), None);
}

/// The page of a table with `size` rows, and which queries it took.
fn read(paging: &Paging, size: i64, after: Option<i64>) -> (Rows<i64>, Vec<(Option<i64>, i64)>) {
    let mut queries = Vec::new();
    let mut query = |after: Option<i64>, limit| {
        queries.push((after, limit));
        let first = after.map_or(0, |after| after + 1);
        ready(Ok::<_, Problem>((first..size.min(first + limit)).collect()))
    };
    let window = paging.window_after(after);
    let reading = async { crate::rows!(window, |after, limit| query(after, limit)) };
    let rows = reading.now_or_never().expect("nothing waits");
    (rows.expect("no query fails"), queries)
}

#[test]
fn items_are_counted_up_to_a_thousand_with_a_second_query_only_if_there_are_more_pages() {
    let paging = |is_counted| Paging {
        limit: 2,
        is_counted,
        cursor: None,
        key: key(),
    };
    for (size, after, total, queries) in [
        (2, None, (2, true), vec![(None, 3)]),
        (3, None, (3, true), vec![(None, 3), (None, 1001)]),
        (3, Some(1), (3, true), vec![(Some(1), 3), (None, 1001)]),
        (1000, None, (1000, true), vec![(None, 3), (None, 1001)]),
        (1001, None, (1000, false), vec![(None, 3), (None, 1001)]),
    ] {
        let (rows, asked) = read(&paging(true), size, after);
        let found = rows.total.expect("it was asked for");
        assert_eq!((found.total, found.total_is_exact), total, "{size}");
        assert_eq!(asked, queries, "{size}");
        let (rows, asked) = read(&paging(false), size, after);
        assert_eq!((rows.total, asked.len()), (None, 1), "{size}");
    }
}

#[test]
fn a_list_that_is_read_whole_comes_in_pages_all_the_same() {
    let key = key();
    let paging = |cursor: Option<String>| Paging {
        limit: 2,
        is_counted: true,
        cursor: cursor.map(|cursor| ("cursor", cursor)),
        key: key.clone(),
    };
    let scope = scope(TenantId::new());
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = paging(cursor).page_of_all(&scope, vec![1, 2, 3, 5, 8], |it| *it);
        let page = page.expect("its own cursor").map(|it| it * 10);
        assert!(page.items.len() <= 2);
        let whole = Total {
            total: 5,
            total_is_exact: true,
        };
        assert_eq!(page.total, Some(whole));
        seen.extend(page.items);
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, [10, 20, 30, 50, 80]);
    let foreign = paging(Some("bm9uZQ".to_owned()));
    assert!(foreign.page_of_all(&scope, vec![1], |it| *it).is_err());
}

proptest! {
    #[test]
    fn no_text_but_ours_is_a_cursor(text in "\\PC{0,80}") {
        prop_assert_eq!(key().open::<serde_json::Value>(&scope(TenantId::new()), &text), None);
    }

    #[test]
    fn no_byte_of_a_cursor_can_be_changed(at in 0usize..40, to in any::<u8>()) {
        let (key, scope) = (key(), scope(TenantId::new()));
        let cursor = key.seal(&scope, &("2026-11-28T12:00:00Z", 7)).expect("sealed");
        let mut bytes = URL_SAFE_NO_PAD.decode(&cursor).expect("base64");
        let at = at % bytes.len();
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        let changed = URL_SAFE_NO_PAD.encode(bytes);
        prop_assert_eq!(key.open::<(String, i64)>(&scope, &changed), None);
    }
}
