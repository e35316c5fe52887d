//! What a principal of a tenant has until a time, or for good: roles and single permissions. Their tables are alike in who has a
//! row and how long, so the queries on that are written once.

/// Those rows of a boxed query that are of `holder`.
macro_rules! of_holder {
    ($query:expr, $table:ident, $holder:expr) => {
        match $holder {
            Holder::User(id) => $query.filter($table::user_id.eq(id)),
            Holder::Service(id) => $query.filter($table::service_account_id.eq(id)),
        }
    };
}

/// `holder`, `insert`, `find`, `delete`, `page`, `now_of` and `end_of_rows` of a table, whose rows are `$row` with the id `$id`.
macro_rules! held_rows {
    ($table:ident, $row:ident, $id:ty) => {
        impl $row {
            /// Who has it. A row has exactly one of both, which the table checks.
            pub(crate) fn holder(&self) -> Option<Holder> {
                let user = self.user_id.map(Holder::User);
                user.or(self.service_account_id.map(Holder::Service))
            }
        }

        async fn insert_row(tx: &mut TenantTx, row: &$row) -> Result<(), DbError> {
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
            after: Option<$id>,
            limit: i64,
        ) -> Result<Vec<$row>, DbError> {
            let tenant = tx.tenant();
            on!(tx, |c| {
                let mut query = $table::table
                    .filter($table::tenant_id.eq(tenant))
                    .select($row::as_select())
                    .order($table::id.asc())
                    .limit(limit)
                    .into_boxed();
                if let Some(after) = after {
                    query = query.filter($table::id.gt(after));
                }
                query.load(c).await
            })
        }

        /// The rows that `holder` has now.
        pub(crate) async fn now_of(
            tx: &mut TenantTx,
            holder: Holder,
        ) -> Result<Vec<$row>, DbError> {
            let (tenant, now) = (tx.tenant(), Moment::now());
            on!(tx, |c| {
                let is_now = $table::expires_at.is_null().or($table::expires_at.gt(now));
                let query = $table::table
                    .filter($table::tenant_id.eq(tenant))
                    .filter(is_now)
                    .select($row::as_select())
                    .order($table::id.asc())
                    .into_boxed();
                of_holder!(query, $table, holder).load(c).await
            })
        }

        /// When the first of the rows ends that `holder` has now.
        pub(super) async fn end_of_rows(
            tx: &mut Connection,
            tenant: TenantId,
            holder: Holder,
        ) -> Result<Option<Moment>, DbError> {
            let end: Option<Option<Moment>> = on!(tx, |c| {
                let query = $table::table
                    .filter($table::tenant_id.eq(tenant))
                    .filter($table::expires_at.gt(Moment::now()))
                    .order($table::expires_at.asc())
                    .select($table::expires_at)
                    .into_boxed();
                of_holder!(query, $table, holder).first(c).await
            })
            .optional()?;
            Ok(end.flatten())
        }
    };
}

pub(super) use {held_rows, of_holder};
