//! Takes requests apart, calls rules, puts answers together.

use std::time::Duration;

use dotmac_platform::{
    audit::{
        Acts as _, Entry, EntryId, Export, Filter, SigningKeys, Verification, VerifiedPlace,
        checkpoints as list_checkpoints, list as list_entries,
    },
    db::{Db, TenantDb},
    prelude::*,
    routing::{Download, FileKind, InvalidRequest, Resume},
};
use futures_util::{Stream, stream};

use crate::{
    AuditLogError, Export as MayExport, Read, Service, Verify,
    bodies::{Asked, CheckpointBody, EntryBody, NewExport, Part, VerificationBody},
    rules,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Entries that one request has verified at the most.
const MOST_VERIFIED: u32 = 100_000;

pub(crate) fn declare(routes: &mut Routes) {
    routes
        .get("/events", list)
        .summary("The tenant's audit log")
        .description(
            "The newest first. An entry appears once it is in the chain, within a second of its commit. Each request is \
             itself recorded, as `sensitive_read`.",
        );
    routes
        .get("/events/{id}", find)
        .summary("One entry of the audit log");
    routes
        .get("/checkpoints", checkpoints)
        .summary("The checkpoints of the tenant's chain, the newest first");
    routes
        .get("/verify", verify)
        .summary("Verify the tenant's chain")
        .description(
            "Computes the hashes again and compares them with the checkpoints and their signatures. A long chain is verified in \
             parts: each answer has the `next_cursor` with which the next one goes on.",
        )
        .rate_limit(RateLimit::per_principal(60, MINUTE));
    routes
        .post("/exports", export)
        .summary("Export the tenant's audit log as a file")
        .description(
            "Lines of JSON that `dotmac audit verify FILE` and tests/verify_audit.py verify without the database. It is \
             written while it is sent, and kept nowhere; its last line is `end`. What was exported is recorded.",
        )
        .rate_limit(RateLimit::per_principal(60, MINUTE));
}

async fn list(
    who: Can<Read>,
    on: Use<Service>,
    asked: Query<Asked>,
    paging: Paging,
) -> Result<Page<EntryBody>, AuditLogError> {
    let filter = rules::filter(&asked)?;
    let bound_filter = format!("{filter:?}");
    let bound = CursorScope {
        tenant: who.tenant,
        list: "audit_events",
        sort: "",
        filter: &bound_filter,
    };
    let window = paging.window::<i64>(&bound)?;
    let (db, sealer) = (on.db.tenant(&who.scope()), on.sealer.clone());
    let read_as = rules::read_entry("audit.events", "", &filter);
    let found = db.read("list audit entries", async move |tx| {
        rows!(window, |before, limit| list_entries(
            tx,
            &filter,
            before.unwrap_or(i64::MAX),
            limit.try_into().unwrap_or(u16::MAX),
            sealer.as_ref()
        ))
    });
    let found = found.await?;
    record(&db, read_as).await?;
    let entries = found.map(EntryBody::from);
    Ok(paging.page(&bound, entries, |entry| entry.number))
}

async fn find(
    who: Can<Read>,
    on: Use<Service>,
    id: Path<EntryId>,
) -> Result<Json<EntryBody>, AuditLogError> {
    let (db, sealer, id) = (on.db.tenant(&who.scope()), on.sealer.clone(), *id);
    let found = db.read("find audit entry", async move |tx| {
        rules::one(tx, id, sealer.as_ref()).await
    });
    let found = found.await?;
    let filter = Filter::default();
    record(
        &db,
        rules::read_entry("audit.event", &id.to_string(), &filter),
    )
    .await?;
    Ok(Json(found.into()))
}

/// Records that entries were read, before they are shown: in its own transaction, since reading may take long.
///
/// # Errors
///
/// [`AuditLogError::Record`], [`AuditLogError::Db`]: then nothing may be shown.
pub(crate) async fn record(db: &TenantDb, entry: Entry) -> Result<(), AuditLogError> {
    db.act("record reading of the audit log", async move |tx| {
        rules::record(tx, entry)
    })
    .await
}

async fn checkpoints(
    who: Can<Verify>,
    on: Use<Service>,
    paging: Paging,
) -> Result<Page<CheckpointBody>, AuditLogError> {
    let bound = CursorScope::of(who.tenant, "audit_checkpoints");
    let window = paging.window(&bound)?;
    let (db, sealer) = (on.db.tenant(&who.scope()), on.sealer.clone());
    let found = db.read("list audit checkpoints", async move |tx| {
        let found = rows!(window, |before, limit| list_checkpoints(
            tx,
            before.unwrap_or(i64::MAX),
            limit.try_into().unwrap_or(u16::MAX)
        ))?;
        Ok::<_, AuditLogError>((found, SigningKeys::load(tx, sealer.as_ref()).await?))
    });
    let (found, keys) = found.await?;
    let items = found.map(|it| CheckpointBody::new(it, &keys));
    Ok(paging.page(&bound, items, |it: &CheckpointBody| it.number))
}

async fn verify(
    who: Can<Verify>,
    on: Use<Service>,
    asked: Query<Part>,
    resume: Resume,
) -> Result<Json<VerificationBody>, AuditLogError> {
    let between = rules::between(asked.from.as_deref(), asked.to.as_deref());
    let (from, to) = between.map_err(|(name, right)| InvalidRequest::query(name, right))?;
    let limit = asked.limit.unwrap_or(MOST_VERIFIED);
    if !(1..=MOST_VERIFIED).contains(&limit) {
        return Err(InvalidRequest::query("limit", "is a whole number from 1 to 100000").into());
    }
    let filter = format!("{from:?} {to:?}");
    let scope = CursorScope {
        tenant: who.tenant,
        list: "audit_verification",
        sort: "",
        filter: &filter,
    };
    let place: Option<VerifiedPlace> = resume.place(&scope)?;
    let db = on.db.system("a tenant has its audit chain verified");
    let sealer = on.sealer.clone();
    let keys = db.read("load signing keys", async move |c| {
        rules::keys(c, sealer).await
    });
    let mut verification = Verification::new(who.tenant, keys.await?)
        .between(from, to)
        .most(i64::from(limit));
    if let Some(place) = place {
        verification = verification.from_place(place);
    }
    let found = verification.run(&db, || {}).await?;
    let further = found.further.filter(|_| found.broken.is_none());
    let next_cursor = further.and_then(|place| resume.cursor(&scope, &place));
    Ok(Json(VerificationBody::new(found, next_cursor)))
}

/// An export of the audit log.
pub(crate) struct ExportFile;

impl FileKind for ExportFile {
    const CONTENT_TYPE: &'static str = "application/x-ndjson";
    const DESCRIPTION: &'static str =
        "The entries with their hashes, and the checkpoints with their signatures, one on a line.";
}

async fn export(
    who: Can<MayExport>,
    on: Use<Service>,
    asked: Valid<NewExport>,
) -> Result<Download<ExportFile>, AuditLogError> {
    let between = rules::between(asked.from.as_deref(), asked.to.as_deref());
    let between =
        between.map_err(|(name, right)| InvalidRequest::fields([(name, right.into())]))?;
    let (db, sealer) = (on.db.tenant(&who.scope()), on.sealer.clone());
    let begun = db.act("export audit log", async move |tx| {
        rules::export(tx, between, sealer).await
    });
    let pieces = pieces(on.db.system("a tenant exports its audit log"), begun.await?);
    Ok(Download::new(rules::file_name(who.tenant), pieces))
}

/// The pieces of an export, each read by itself.
pub(crate) fn pieces(db: Db, export: Export) -> impl Stream<Item = Result<String, DbError>> {
    stream::try_unfold((db, export), async |(db, mut export)| {
        let read = async move |c: &mut dotmac_platform::db::Connection| {
            let piece = export.next(c).await?;
            Ok::<_, DbError>((piece, export))
        };
        let (piece, export) = db.read("export audit entries", read).await?;
        Ok(piece.map(|piece| (piece, (db, export))))
    })
}
