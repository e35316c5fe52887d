//! Where a chain must end, by what is written down of it beyond its links.

use diesel::{dsl::max, prelude::*};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, OptionalExtension, TenantId, on};

use super::super::{
    Hash,
    tables::{audit_chain, audit_checkpoint, audit_link},
};

/// What is written down of a chain.
pub(super) struct Ending {
    tenant: TenantId,
    /// Up to where retention has taken links away.
    pub(super) start: i64,
    pub(super) number: i64,
    pub(super) hash: Hash,
    /// The number that its links must reach.
    newest: i64,
}

impl Ending {
    /// That of a tenant, whose chain was seen with the link `known`.
    pub(super) async fn find(
        c: &mut Connection,
        tenant: TenantId,
        known: Option<(i64, Hash)>,
    ) -> Result<Self, DbError> {
        let query = audit_chain::table.find(tenant).select((
            audit_chain::start,
            audit_chain::number,
            audit_chain::hash,
        ));
        let found: Option<(i64, i64, Vec<u8>)> = on!(c, |c| query.first(c).await).optional()?;
        let (start, number, hash) = found.unwrap_or_default();
        let newest = audit_checkpoint::table
            .filter(audit_checkpoint::tenant_id.eq(tenant))
            .select(max(audit_checkpoint::number));
        let checked: Option<i64> = on!(c, |c| newest.get_result(c).await)?;
        let known = known.map_or(0, |(number, _)| number);
        Ok(Self {
            tenant,
            start,
            number,
            hash: Hash::from_bytes(&hash).unwrap_or_default(),
            newest: number.max(checked.unwrap_or_default()).max(known),
        })
    }

    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    /// The number of the last link that is there, or was before retention.
    pub(super) async fn last_link(&self, c: &mut Connection) -> Result<i64, DbError> {
        let last = audit_link::table
            .filter(audit_link::tenant_id.eq(self.tenant))
            .select(max(audit_link::number));
        let last: Option<i64> = on!(c, |c| last.get_result(c).await)?;
        Ok(last.unwrap_or_default().max(self.start))
    }
}
