//! Files that mails of a notification have attached to them: their ids, for the bytes are with the service of files.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{DbError, TenantId, TenantTx, insert_all, on, types::Id};

use super::{notifications::NotificationId, schema::notification_attachment as attachment};

/// A file of the service of files; a mark for ids.
pub(crate) enum AttachedFile {}

pub(crate) type FileId = Id<AttachedFile>;

#[derive(Clone, Insertable)]
#[diesel(table_name = attachment)]
struct AttachmentRow {
    tenant_id: TenantId,
    notification_id: NotificationId,
    number: i32,
    file_id: FileId,
}

/// Notes the files of a notification, in their order.
pub(crate) async fn insert(
    tx: &mut TenantTx,
    notification_id: NotificationId,
    files: &[FileId],
) -> Result<(), DbError> {
    if files.is_empty() {
        return Ok(());
    }
    let tenant_id = tx.tenant();
    let rows: Vec<_> = (1..)
        .zip(files)
        .map(|(number, file_id)| AttachmentRow {
            tenant_id,
            notification_id,
            number,
            file_id: *file_id,
        })
        .collect();
    insert_all!(tx, attachment::table, rows).map(drop)
}

/// The files of these notifications, each one's in their order.
pub(crate) async fn of_all(
    tx: &mut TenantTx,
    ids: Vec<NotificationId>,
) -> Result<HashMap<NotificationId, Vec<FileId>>, DbError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let these = attachment::tenant_id
        .eq(tx.tenant())
        .and(attachment::notification_id.eq_any(ids));
    let query = attachment::table
        .filter(these)
        .order((attachment::notification_id, attachment::number))
        .select((attachment::notification_id, attachment::file_id));
    let found: Vec<(NotificationId, FileId)> = on!(tx, |c| query.load(c).await)?;
    let mut files: HashMap<_, Vec<_>> = HashMap::new();
    for (notification, file) in found {
        files.entry(notification).or_default().push(file);
    }
    Ok(files)
}

/// The files of a notification, in their order.
pub(crate) async fn of(tx: &mut TenantTx, id: NotificationId) -> Result<Vec<FileId>, DbError> {
    let these = attachment::tenant_id
        .eq(tx.tenant())
        .and(attachment::notification_id.eq(id));
    let query = attachment::table
        .filter(these)
        .order(attachment::number)
        .select(attachment::file_id);
    on!(tx, |c| query.load(c).await)
}
