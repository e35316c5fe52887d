//! What a principal of a tenant holds, for good or until a time: roles, and permissions without a role. Their tables differ
//! in one column, so their queries are written once.

use uuid::Uuid;

/// Those rows of a boxed query that belong to `holder`.
macro_rules! of_holder {
    ($query:expr, $table:ident, $holder:expr) => {
        match $holder {
            Holder::User(id) => $query.filter($table::user_id.eq(id)),
            Holder::Service(id) => $query.filter($table::service_account_id.eq(id)),
        }
    };
}

/// Whether a row has not expired by `now`.
macro_rules! lasts {
    ($table:ident, $now:expr) => {
        $table::expires_at.is_null().or($table::expires_at.gt($now))
    };
}

/// Which rows of such a table; `W` is what a row gives.
#[derive(Clone, Debug)]
pub(crate) struct HeldFilter<W> {
    /// The user or the service account.
    pub(crate) principal: Option<Uuid>,
    pub(crate) what: Option<W>,
}

/// The queries of such a table, whose rows are `$row` with the id `$id`, and give `$what`, of the type `$kind`.
macro_rules! held_rows {
    ($table:ident, $row:ident, $id:ty, $what:ident: $kind:ty) => {
        impl $row {
            /// The holder. A row has exactly one of both, which the table checks.
            pub(crate) fn holder(&self) -> Option<Holder> {
                let user = self.user_id.map(Holder::User);
                user.or(self.service_account_id.map(Holder::Service))
            }

            /// The id of the holder.
            pub(crate) fn principal(&self) -> uuid::Uuid {
                self.holder().map(Holder::uuid).unwrap_or_default()
            }
        }

        /// Stores the row in place of an expired one that gave the same to the same holder.
        pub(crate) async fn insert(tx: &mut TenantTx, row: &$row) -> Result<(), DbError> {
            let over = $table::tenant_id
                .eq(tx.tenant())
                .and($table::$what.eq(Clone::clone(&row.$what)))
                .and($table::expires_at.le(Moment::now()));
            let holder = row.holder();
            on!(tx, |c| {
                let over = diesel::delete($table::table.filter(over)).into_boxed();
                match holder {
                    Some(holder) => of_holder!(over, $table, holder).execute(c).await,
                    None => Ok(0),
                }
            })?;
            on!(tx, |c| diesel::insert_into($table::table)
                .values(row)
                .execute(c)
                .await)
            .map(drop)
        }

        pub(crate) async fn find(tx: &mut TenantTx, id: $id) -> Result<Option<$row>, DbError> {
            let this_one = $table::tenant_id.eq(tx.tenant()).and($table::id.eq(id));
            let query = $table::table.filter(this_one);
            on!(tx, |c| query.select($row::as_select()).first(c).await).optional()
        }

        pub(crate) async fn delete(tx: &mut TenantTx, id: $id) -> Result<usize, DbError> {
            let this_one = $table::tenant_id.eq(tx.tenant()).and($table::id.eq(id));
            on!(tx, |c| diesel::delete($table::table.filter(this_one))
                .execute(c)
                .await)
        }

        pub(crate) async fn page(
            tx: &mut TenantTx,
            filter: HeldFilter<$kind>,
            slice: Slice<$id>,
        ) -> Result<Vec<$row>, DbError> {
            let tenant = tx.tenant();
            on!(tx, |c| {
                let mut query = $table::table
                    .filter($table::tenant_id.eq(tenant))
                    .select($row::as_select())
                    .into_boxed();
                if let Some(principal) = filter.principal {
                    let user = UserId::from_uuid(principal);
                    let account = ServiceAccountId::from_uuid(principal);
                    query = query.filter(
                        $table::user_id
                            .eq(user)
                            .or($table::service_account_id.eq(account)),
                    );
                }
                if let Some(what) = filter.what {
                    query = query.filter($table::$what.eq(what));
                }
                sliced!(query, $table::id, slice).load(c).await
            })
        }

        /// The rows of `holder` that have not expired.
        pub(crate) async fn now_of(
            tx: &mut TenantTx,
            holder: Holder,
        ) -> Result<Vec<$row>, DbError> {
            let (tenant, now) = (tx.tenant(), Moment::now());
            on!(tx, |c| {
                let query = $table::table
                    .filter($table::tenant_id.eq(tenant))
                    .filter(lasts!($table, now))
                    .select($row::as_select())
                    .order($table::id.asc())
                    .into_boxed();
                of_holder!(query, $table, holder).load(c).await
            })
        }

        /// The number of rows of `holder` that have not expired.
        pub(crate) async fn count_of(tx: &mut TenantTx, holder: Holder) -> Result<i64, DbError> {
            let (tenant, now) = (tx.tenant(), Moment::now());
            on!(tx, |c| {
                let query = $table::table
                    .filter($table::tenant_id.eq(tenant))
                    .filter(lasts!($table, now))
                    .count()
                    .into_boxed();
                of_holder!(query, $table, holder).get_result(c).await
            })
        }

        /// Deletes at most `limit` rows that expired before `time`; their number.
        pub(crate) async fn delete_over(
            tx: &mut Tx,
            time: Moment,
            limit: i64,
        ) -> Result<usize, DbError> {
            let over = $table::table
                .filter($table::expires_at.lt(time))
                .order($table::expires_at.asc())
                .limit(limit)
                .select($table::id);
            let over: Vec<$id> = on!(tx, |c| over.load(c).await)?;
            on!(tx, |c| diesel::delete(
                $table::table.filter($table::id.eq_any(over))
            )
            .execute(c)
            .await)
        }
    };
}

pub(super) use {held_rows, lasts, of_holder};
