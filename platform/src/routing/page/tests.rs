//! Cursors, and pages.

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

#[test]
fn a_list_that_is_read_whole_comes_in_pages_all_the_same() {
    let paging = |cursor: Option<String>| Paging {
        limit: 2,
        cursor: cursor.map(|cursor| ("cursor", cursor)),
        key: CursorKey {
            secret: None,
            own: Arc::new([7; 32]),
        },
    };
    let scope = scope(TenantId::new());
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = paging(cursor).page_of_all(&scope, vec![1, 2, 3, 5, 8], |it| *it);
        let page = page.expect("its own cursor").map(|it| it * 10);
        assert!(page.items.len() <= 2);
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
