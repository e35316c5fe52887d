//! Compares the store with the tables: bytes without a blob, blobs without bytes, wrong numbers of files and of used bytes.
//!
//! All of it is 0 while the rules hold, even if instances are killed: a row is there before its first byte and until after
//! its last. What is found anyway was done past this program, or shows a mistake in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dotmac_platform::db::{Isolation, Retry, TenantId, TenantScope, types::Moment};
use futures_util::TryStreamExt as _;

use crate::{
    FilesError,
    service::Service,
    storage::Stored,
    store::{
        blobs::{self, BlobId},
        files, renditions, uploads,
        usage::{self, OwnerId, Usage, WHOLE},
        versions,
    },
};

/// Bytes that are younger may be those of a blob whose row was just deleted.
const GRACE: Duration = Duration::from_secs(10 * 60);

/// Rows, and names of the store, that are compared at once.
const BATCH: usize = 500;

/// What is done about what is found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// Which bytes that belong to no blob are deleted.
    pub(crate) deletes_orphans: Deletes,
    /// Corrects the numbers of used bytes.
    pub(crate) corrects_usage: bool,
}

/// Which bytes that belong to no blob are deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Deletes {
    #[default]
    None,
    /// All, unless they are so many that the database may be that of another store, or an old one.
    Few,
    All,
}

impl Deletes {
    /// Whether so many are deleted next to so many that belong to blobs.
    fn allows(self, orphans: usize, known: usize) -> bool {
        match self {
            Self::None => false,
            Self::Few => orphans <= (known / 10).max(known.min(10)),
            Self::All => true,
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Blobs that were compared.
    pub(crate) blobs: u64,
    /// Names in the store that belong to no blob.
    pub(crate) orphans: Vec<String>,
    /// They were not deleted, since they are too many.
    pub(crate) are_too_many: bool,
    /// Blobs whose bytes are not there, or not of their size.
    pub(crate) missing: Vec<BlobId>,
    /// Blobs whose number of files is another one than they say.
    pub(crate) miscounted: Vec<BlobId>,
    /// Tenants and owners whose used bytes are others than they say.
    pub(crate) usage: Vec<(TenantId, OwnerId)>,
}

impl Report {
    pub(crate) fn is_clean(&self) -> bool {
        self.orphans.is_empty()
            && self.missing.is_empty()
            && self.miscounted.is_empty()
            && self.usage.is_empty()
    }
}

/// Compares everything. `beat` is called with each step.
///
/// # Errors
///
/// The store or the database did not answer; what was found until then is not shown.
pub(crate) async fn run(
    on: &Service,
    options: Options,
    beat: &(dyn Fn() + Sync),
) -> Result<Report, FilesError> {
    let mut report = Report::default();
    orphans(on, options, beat, &mut report).await?;
    missing(on, beat, &mut report).await?;
    used(on, options, &mut report).await?;
    on.found
        .set(report.orphans.len() as u64, report.missing.len() as u64);
    Ok(report)
}

/// What is in the store and belongs to no blob.
async fn orphans(
    on: &Service,
    options: Options,
    beat: &(dyn Fn() + Sync),
    report: &mut Report,
) -> Result<(), FilesError> {
    let mut stored = on.storage.list().await?.try_chunks(BATCH);
    let (mut found, mut kept) = (Vec::new(), 0);
    while let Some(some) = stored.try_next().await.map_err(|error| error.1)? {
        beat();
        let ids: Vec<BlobId> = some.iter().filter_map(|it| it.blob).collect();
        let known = on
            .system
            .read("find blobs", async move |c| blobs::known(c, ids).await);
        let known: BTreeSet<BlobId> = known.await?.into_iter().collect();
        let youngest = Moment::now() - GRACE;
        let is_orphan = |it: &&Stored| {
            let has_row = it.blob.is_some_and(|blob| known.contains(&blob));
            !has_row && it.modified < youngest
        };
        kept += known.len();
        for orphan in some.iter().filter(is_orphan) {
            if !orphan.is_probe() {
                found.push(orphan.clone());
            } else if options.deletes_orphans != Deletes::None {
                // An instance was killed between writing and deleting it.
                on.storage.delete_stored(orphan).await?;
            }
        }
    }
    report.orphans = found.iter().map(|orphan| orphan.name.clone()).collect();
    if !options.deletes_orphans.allows(found.len(), kept) {
        report.are_too_many = options.deletes_orphans == Deletes::Few && !found.is_empty();
        return Ok(());
    }
    for orphan in found {
        beat();
        on.storage.delete_stored(&orphan).await?;
        tracing::warn!(
            name = orphan.name,
            size = orphan.size,
            "deleted bytes that belong to no blob"
        );
    }
    Ok(())
}

/// Blobs whose bytes are not there, and those that say another number of files than there are.
async fn missing(
    on: &Service,
    beat: &(dyn Fn() + Sync),
    report: &mut Report,
) -> Result<(), FilesError> {
    let mut after = None;
    loop {
        let most = i64::try_from(BATCH).unwrap_or(i64::MAX);
        let rows = on.system.read("list blobs", async move |c| {
            blobs::stored_after(c, after, most).await
        });
        let rows = rows.await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = Some(last.id);
        for row in rows {
            beat();
            report.blobs += 1;
            let size = on.storage.size(row.id).await?;
            let is_there = size.is_some_and(|size| i64::try_from(size) == Ok(row.size));
            let (tenant, id) = (row.tenant_id, row.id);
            let counted = on.system.read("count files of blob", async move |c| {
                let files = files::count_of(c, tenant, id).await?
                    + versions::count_of(c, tenant, id).await?
                    + renditions::count_of(c, tenant, id).await?;
                Ok::<_, FilesError>((files, blobs::find(c, tenant, id).await?))
            });
            // It may have changed since it was listed.
            let (files, now) = counted.await?;
            let Some(now) = now.filter(|it| it.state == row.state) else {
                continue;
            };
            if !is_there {
                report.missing.push(id);
            }
            if row.state == blobs::KEPT && files != now.refs {
                report.miscounted.push(id);
            }
        }
    }
}

/// What files and uploads use, and what the table of used bytes says.
async fn used(on: &Service, options: Options, report: &mut Report) -> Result<(), FilesError> {
    // One snapshot: transactions commit meanwhile.
    let snapshot = Retry::new().isolation(Isolation::RepeatableRead);
    let read = on
        .system
        .retrying_transaction("compare used bytes", snapshot, async |tx| {
            let (mut files, mut reserved) = (files::used(tx).await?, blobs::reserved(tx).await?);
            files.extend(versions::used(tx).await?.into_iter().map(of_versions));
            reserved.extend(uploads::reserved(tx).await?);
            Ok::<_, FilesError>((files, reserved, usage::all(tx).await?))
        });
    let (files, reserved, kept) = read.await?;
    let mut found: BTreeMap<(TenantId, OwnerId), Usage> = BTreeMap::new();
    let mut add = |tenant, owner, more: Usage| {
        for owner in [WHOLE, owner] {
            let sum = found.entry((tenant, owner)).or_default();
            sum.used += more.used;
            sum.reserved += more.reserved;
            sum.files += more.files;
        }
    };
    files
        .into_iter()
        .for_each(|(tenant, owner, usage)| add(tenant, owner, usage));
    for (tenant, owner, reserved) in reserved {
        add(
            tenant,
            owner,
            Usage {
                reserved,
                ..Usage::default()
            },
        );
    }
    for (tenant, owner, kept) in kept {
        let right = found.get(&(tenant, owner)).copied().unwrap_or_default();
        if right == kept {
            continue;
        }
        report.usage.push((tenant, owner));
        if options.corrects_usage {
            let scope = TenantScope::system(tenant, "correct used bytes");
            let db = on.db.tenant(&scope);
            let corrected = db.transaction("correct used bytes", async move |tx| {
                usage::change(tx, owner, kept.until(right)).await?;
                Ok::<_, FilesError>(())
            });
            corrected.await?;
        }
    }
    Ok(())
}

/// Former contents have bytes, and are no files.
fn of_versions((tenant, owner, used): (TenantId, OwnerId, i64)) -> (TenantId, OwnerId, Usage) {
    let usage = Usage {
        used,
        ..Usage::default()
    };
    (tenant, owner, usage)
}

#[cfg(test)]
mod tests {
    use super::Deletes;

    #[test]
    fn few_are_deleted_and_never_all_that_there_is() {
        for (orphans, known, is_allowed) in [
            (0, 0, true),
            (1, 0, false),
            (1, 1, true),
            (2, 1, false),
            (10, 10, true),
            (11, 10, false),
            (10, 100, true),
            (11, 100, false),
            (100, 1000, true),
            (101, 1000, false),
        ] {
            let found = Deletes::Few.allows(orphans, known);
            assert_eq!(found, is_allowed, "{orphans} of {known}");
            assert!(Deletes::All.allows(orphans, known) && !Deletes::None.allows(orphans, known));
        }
    }
}
