//! Templates and their versions.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    DbError, OptionalExtension as _, TenantId, TenantTx, on,
    types::{Id, Moment},
};

use super::schema::{notification_template as template, notification_template_version as version};

/// A template; a mark for ids.
pub(crate) enum Template {}

pub(crate) type TemplateId = Id<Template>;

#[derive(Clone, Insertable, Queryable, Selectable)]
#[diesel(table_name = template, treat_none_as_default_value = false)]
pub(crate) struct TemplateRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: TemplateId,
    pub(crate) key: String,
    pub(crate) description: Option<String>,
    pub(crate) version: i64,
    pub(crate) created_at: Moment,
    pub(crate) updated_at: Moment,
}

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = version, treat_none_as_default_value = false)]
pub(crate) struct VersionRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) template_id: TemplateId,
    pub(crate) number: i64,
    pub(crate) subject: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) html: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) created_at: Moment,
}

/// Stores a template; 0 if the tenant has one with its key.
pub(crate) async fn insert(tx: &mut TenantTx, row: TemplateRow) -> Result<usize, DbError> {
    let insert = diesel::insert_into(template::table).values(row);
    let insert = insert
        .on_conflict((template::tenant_id, template::key))
        .do_nothing();
    on!(tx, |c| insert.execute(c).await)
}

pub(crate) async fn insert_version(tx: &mut TenantTx, row: VersionRow) -> Result<(), DbError> {
    let insert = diesel::insert_into(version::table).values(row);
    on!(tx, |c| insert.execute(c).await).map(drop)
}

pub(crate) async fn count(tx: &mut TenantTx) -> Result<i64, DbError> {
    let query = template::table.filter(template::tenant_id.eq(tx.tenant()));
    let query = query.count();
    on!(tx, |c| query.get_result(c).await)
}

pub(crate) async fn find(
    tx: &mut TenantTx,
    id: TemplateId,
) -> Result<Option<TemplateRow>, DbError> {
    let this_one = (tx.tenant(), id);
    on!(tx, |c| {
        let query = template::table.find(this_one);
        query.select(TemplateRow::as_select()).first(c).await
    })
    .optional()
}

pub(crate) async fn find_by_key(
    tx: &mut TenantTx,
    key: String,
) -> Result<Option<TemplateRow>, DbError> {
    let this_one = template::tenant_id
        .eq(tx.tenant())
        .and(template::key.eq(key));
    on!(tx, |c| {
        let query = template::table.filter(this_one);
        query.select(TemplateRow::as_select()).first(c).await
    })
    .optional()
}

pub(crate) async fn find_version(
    tx: &mut TenantTx,
    id: TemplateId,
    number: i64,
) -> Result<Option<VersionRow>, DbError> {
    let this_one = (tx.tenant(), id, number);
    on!(tx, |c| {
        let query = version::table.find(this_one);
        query.select(VersionRow::as_select()).first(c).await
    })
    .optional()
}

/// The newest 200 versions of a template.
pub(crate) async fn versions(
    tx: &mut TenantTx,
    id: TemplateId,
) -> Result<Vec<VersionRow>, DbError> {
    let these = version::tenant_id
        .eq(tx.tenant())
        .and(version::template_id.eq(id));
    on!(tx, |c| {
        let query = version::table.filter(these).order(version::number.desc());
        query
            .limit(200)
            .select(VersionRow::as_select())
            .load(c)
            .await
    })
}

/// At most `limit`, by key, those after `after`.
pub(crate) async fn page(
    tx: &mut TenantTx,
    after: Option<String>,
    limit: i64,
) -> Result<Vec<TemplateRow>, DbError> {
    let of_tenant = template::tenant_id.eq(tx.tenant());
    on!(tx, |c| {
        let mut page = template::table
            .filter(of_tenant)
            .order(template::key.asc())
            .limit(limit)
            .into_boxed();
        if let Some(after) = after {
            page = page.filter(template::key.gt(after));
        }
        page.select(TemplateRow::as_select()).load(c).await
    })
}

/// Makes `number` the newest version, if the one before still is; how many templates that were.
pub(crate) async fn advance(
    tx: &mut TenantTx,
    id: TemplateId,
    number: i64,
    description: Option<String>,
) -> Result<usize, DbError> {
    let as_seen = template::table
        .find((tx.tenant(), id))
        .filter(template::version.eq(number - 1));
    let set = (
        template::version.eq(number),
        template::description.eq(description),
        template::updated_at.eq(Moment::now()),
    );
    on!(tx, |c| diesel::update(as_seen).set(set).execute(c).await)
}

/// Deletes the template with its versions, if it is in that version; how many that were.
pub(crate) async fn delete(tx: &mut TenantTx, id: TemplateId, seen: i64) -> Result<usize, DbError> {
    let as_seen = template::table
        .find((tx.tenant(), id))
        .filter(template::version.eq(seen));
    on!(tx, |c| diesel::delete(as_seen).execute(c).await)
}
