//! What principals of the tenant hold: the handlers that roles and single permissions have in common.

/// The version of what is made and deleted, and never changed in between.
pub(super) const UNCHANGED: i64 = 1;

/// The handlers `$list`, `$find` and `$delete` of one kind: its rows are those of `$store`, and are shown as a `$body`.
macro_rules! held_handlers {
    (
        $path:literal, $store:ident, $mark:ident, $filter:ident, $body:ident, $take:path;
        $list:ident, $find:ident, $delete:ident
    ) => {
        async fn $list(
            who: Can<ReadRoles>,
            on: Use<Service>,
            asked: Query<$filter>,
            sort: Sort<ByCreation>,
            paging: Paging,
        ) -> Result<Page<$body>, AccountsError> {
            let (filter, order) = (asked.into_inner().read(), sort.to_string());
            let filtered = format!("{filter:?}");
            let bound = CursorScope {
                tenant: who.tenant,
                list: $path,
                sort: &order,
                filter: &filtered,
            };
            let window = paging.window::<Id<$mark>>(&bound)?;
            let db = on.db.tenant(&who.scope());
            let read = db.read(concat!("list ", $path), async move |tx| {
                rows!(window, |after, limit| $store::page(
                    tx,
                    filter.clone(),
                    Slice::new(sort, after, limit)
                ))
            });
            let page = paging.page(&bound, read.await?, |row| row.id);
            Ok(page.map(|row| $body::of(&row)))
        }

        async fn $find(
            who: Can<ReadRoles>,
            on: Use<Service>,
            id: Path<Id<$mark>>,
        ) -> Result<Versioned<$body>, AccountsError> {
            let db = on.db.tenant(&who.scope());
            let found = db.read(concat!("find one of ", $path), async move |tx| {
                $store::find(tx, *id).await
            });
            let row = found.await?.ok_or(AccountsError::NotFound)?;
            Ok($body::of(&row).versioned())
        }

        async fn $delete(
            who: Can<WriteRoles>,
            on: Use<Service>,
            id: Path<Id<$mark>>,
            seen: IfMatch,
        ) -> Result<NoContent, AccountsError> {
            on.stepped_up_person(&who)?;
            let (principal, changes, id) = ((*who).clone(), on.changes.clone(), *id);
            let deleted =
                on.db
                    .tenant(&who.scope())
                    .act(concat!("delete one of ", $path), async move |tx| {
                        let row = $store::find(tx, id).await?;
                        let row = row.ok_or(AccountsError::NotFound)?;
                        seen.check(UNCHANGED)?;
                        $take(tx, &changes, &principal, &row).await
                    });
            deleted.await?;
            Ok(NoContent)
        }

        impl $body {
            fn versioned(self) -> Versioned<Self> {
                Versioned {
                    version: UNCHANGED,
                    body: self,
                }
            }
        }
    };
}

pub(super) use held_handlers;
