//! Many files with one request, each in its own transaction.

use dotmac_platform::{
    access::{Permission as _, Principal},
    audit::Acts as _,
    db::types::Id,
    prelude::*,
};

use super::bodies::{BatchBody, BatchItem, BatchOp, BatchPost, BatchResult};
use crate::{
    Delete, FilesError, Write,
    rules::files::{self as rules, Relabel},
    service::Service,
    store::files::FileRow,
};

pub(super) async fn batch(
    who: Can<Write>,
    on: Use<Service>,
    post: Valid<BatchPost>,
) -> Result<Json<BatchBody>, FilesError> {
    let mut items = Vec::new();
    for item in post.into_inner().items {
        let (id, op) = (item.id, item.op);
        items.push(match carry_out(&who, &on, item).await {
            Ok(row) => BatchResult {
                id,
                status: if op == BatchOp::Copy { 201 } else { 200 },
                file: Some(row.into()),
                error: None,
            },
            Err(error) => {
                let error = dotmac_platform::http::ItemProblem::from(error.into_problem());
                BatchResult {
                    id,
                    status: error.status(),
                    file: None,
                    error: Some(error),
                }
            }
        });
    }
    Ok(Json(BatchBody { items }))
}

async fn carry_out(who: &Principal, on: &Service, item: BatchItem) -> Result<FileRow, FilesError> {
    let BatchItem {
        op,
        id,
        folder,
        name,
    } = item;
    let (id, owner, quotas) = (Id::from_uuid(id), Id::from_uuid(who.id), on.quotas());
    let relabel = Relabel {
        name,
        folder,
        ..Relabel::default()
    };
    let db = on.db.tenant(&who.scope());
    match op {
        BatchOp::Move => {
            db.act("move file", async move |tx| {
                rules::change(tx, id, None, relabel).await
            })
            .await
        }
        BatchOp::Copy => {
            let copied = db.act("copy file", async move |tx| {
                rules::copy(tx, id, owner, quotas, relabel).await
            });
            copied.await
        }
        BatchOp::Delete if !who.may::<Delete>() => Err(FilesError::Forbidden(Delete::SPEC.name)),
        BatchOp::Delete => {
            db.act("delete file", async move |tx| {
                rules::delete(tx, id, None).await
            })
            .await
        }
        BatchOp::Restore => {
            db.act("restore file", async move |tx| rules::restore(tx, id).await)
                .await
        }
    }
}
