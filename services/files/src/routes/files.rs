//! Files, and what is done with them.

use dotmac_platform::{
    audit::Acts as _,
    db::types::Id,
    prelude::*,
    routing::{CursorScope, Idempotency, IfMatch},
};

use super::{
    FileReply,
    bodies::{Asked, FileBody, FilePatch, MoveTo, QuotaBody, UsageBody},
    created, versioned,
};
use crate::{
    Delete, FilesError, Read, Write,
    rules::files as rules,
    service::Service,
    store::{
        files::{self as store, FileColumn, FileId},
        usage::{self as usages, WHOLE},
    },
};

pub(super) async fn list(
    who: Can<Read>,
    on: Use<Service>,
    asked: Query<Asked>,
    sort: Sort<FileColumn>,
    paging: Paging,
) -> Result<Page<FileBody>, FilesError> {
    let filter = asked.filter()?;
    let (bound_filter, order) = (format!("{filter:?}"), sort.to_string());
    let bound = CursorScope {
        tenant: who.tenant,
        list: "files",
        sort: &order,
        filter: &bound_filter,
    };
    let (window, db) = (paging.window(&bound)?, on.db.tenant(&who.scope()));
    let found = db.read("list files", async move |tx| {
        rows!(window, |after, limit| store::page(
            tx,
            filter.clone(),
            sort,
            after,
            limit
        ))
    });
    let found = found.await?.map(FileBody::from);
    Ok(paging.page(&bound, found, |file| FileId::from_uuid(file.id)))
}

pub(super) async fn usage(who: Can<Read>, on: Use<Service>) -> Result<Json<UsageBody>, FilesError> {
    let (owner, quotas) = (Id::from_uuid(who.id), on.quotas());
    let db = on.db.tenant(&who.scope());
    let found = db.read("find usage of files", async move |tx| {
        let tenant = usages::find(tx, WHOLE).await?;
        Ok::<_, FilesError>((tenant, usages::find(tx, owner).await?))
    });
    let (tenant, user) = found.await?;
    Ok(Json(UsageBody {
        tenant: QuotaBody::new(tenant, quotas.tenant),
        user: QuotaBody::new(user, quotas.user),
    }))
}

pub(super) async fn find(who: Can<Read>, on: Use<Service>, id: Path<FileId>) -> FileReply {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find file", async move |tx| rules::find(tx, *id).await);
    Ok(versioned(found.await?))
}

pub(super) async fn change(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<FileId>,
    seen: IfMatch,
    patch: Valid<FilePatch>,
) -> FileReply {
    let relabel = patch.into_inner().into();
    let db = on.db.tenant(&who.scope());
    let changed = db.act("change file", async move |tx| {
        rules::change(tx, *id, Some(&seen), relabel).await
    });
    Ok(versioned(changed.await?))
}

pub(super) async fn delete(
    who: Can<Delete>,
    on: Use<Service>,
    id: Path<FileId>,
    seen: IfMatch,
) -> Result<NoContent, FilesError> {
    let db = on.db.tenant(&who.scope());
    let deleted = db.act("delete file", async move |tx| {
        rules::delete(tx, *id, Some(&seen)).await
    });
    deleted.await?;
    Ok(NoContent)
}

pub(super) async fn move_to(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<FileId>,
    to: Valid<MoveTo>,
) -> FileReply {
    let relabel = to.into_inner().into();
    let db = on.db.tenant(&who.scope());
    let moved = db.act("move file", async move |tx| {
        rules::change(tx, *id, None, relabel).await
    });
    Ok(versioned(moved.await?))
}

pub(super) async fn copy(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<FileId>,
    to: Valid<MoveTo>,
    once: Idempotency,
) -> Result<Created<Versioned<FileBody>>, FilesError> {
    let relabel = to.into_inner().into();
    let (owner, quotas) = (Id::from_uuid(who.id), on.quotas());
    let db = on.db.tenant(&who.scope());
    let copied = db.act("copy file", async move |tx| {
        let copied = rules::copy(tx, *id, owner, quotas, relabel).await?;
        Ok(copied.map(|row| once.keep(tx, created(row))))
    });
    copied.await
}

pub(super) async fn restore(who: Can<Write>, on: Use<Service>, id: Path<FileId>) -> FileReply {
    let db = on.db.tenant(&who.scope());
    let restored = db.act("restore file", async move |tx| {
        rules::restore(tx, *id).await
    });
    Ok(versioned(restored.await?))
}
