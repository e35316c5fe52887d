//! Templates: what may be one, and which version is meant.

use dotmac_platform::{
    audit::{Audit as _, Audited, Entry},
    db::{
        DbError, TenantTx,
        types::{Id, Moment},
    },
    routing::{IfMatch, PreconditionFailed},
};

use crate::{
    audit::{TEMPLATE_ADD, TEMPLATE_CHANGE, TEMPLATE_DELETE},
    bodies::{NewTemplate, RenderAsked, RenderedBody, TemplateBody, TemplatePatch},
    channel::is_category,
    content::{Content, RECIPIENT, Recipient},
    error::{Missing, NotificationsError, WrongField},
    render::Sources,
    store::{
        notifications::NotificationRow,
        templates::{self as store, TemplateId, TemplateRow, VersionRow},
    },
};

/// The most templates of a tenant.
const MOST: i64 = 1000;

/// What a version is rendered from.
pub(crate) fn sources(version: &VersionRow) -> Sources<'_> {
    Sources {
        subject: version.subject.as_deref(),
        text: version.text.as_deref(),
        html: version.html.as_deref(),
        title: version.title.as_deref(),
        body: version.body.as_deref(),
    }
}

/// The version that a notification was sent with.
pub(crate) async fn version_of(
    tx: &mut TenantTx,
    row: &NotificationRow,
) -> Result<Option<VersionRow>, DbError> {
    match (row.template_id, row.template_version) {
        (Some(id), Some(number)) => store::find_version(tx, id, number).await,
        _ => Ok(None),
    }
}

/// The version `number`, or the newest, of the template with that key or id.
pub(crate) async fn named(
    tx: &mut TenantTx,
    key: &str,
    number: Option<i64>,
) -> Result<Option<VersionRow>, DbError> {
    let by_id = match key.parse::<TemplateId>() {
        Ok(id) => store::find(tx, id).await?,
        Err(_) => None,
    };
    let found = match by_id {
        Some(row) => Some(row),
        None => store::find_by_key(tx, key.to_owned()).await?,
    };
    let Some(row) = found else {
        return Ok(None);
    };
    store::find_version(tx, row.id, number.unwrap_or(row.version)).await
}

/// The template of that id, in its newest version.
///
/// # Errors
///
/// [`NotificationsError::NotFound`].
pub(crate) async fn find(
    tx: &mut TenantTx,
    id: TemplateId,
) -> Result<(TemplateRow, VersionRow), NotificationsError> {
    let missing = || NotificationsError::NotFound(Missing::Template);
    let row = store::find(tx, id).await?.ok_or_else(missing)?;
    let newest = store::find_version(tx, id, row.version).await?;
    Ok((row, newest.ok_or_else(missing)?))
}

/// Adds a template, in version 1.
///
/// # Errors
///
/// [`NotificationsError::Wrong`] names each part that is no template; [`NotificationsError::TemplateExists`].
pub(crate) async fn add(
    tx: &mut TenantTx,
    new: NewTemplate,
) -> Result<Audited<TemplateBody>, NotificationsError> {
    let now = Moment::now();
    let row = TemplateRow {
        tenant_id: tx.tenant(),
        id: Id::new(),
        key: new.key,
        description: new.description,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let version = VersionRow {
        tenant_id: tx.tenant(),
        template_id: row.id,
        number: 1,
        subject: new.subject,
        text: new.text,
        html: new.html,
        title: new.title,
        body: new.body,
        created_at: now,
    };
    let mut wrong = wrong_parts(&version);
    if !is_category(&row.key) {
        let problem =
            "has not 1 to 64 lower-case letters, digits, `_`, `-` and `.`, a letter first";
        wrong.insert(0, WrongField::new("key", "invalid", problem));
    }
    if !wrong.is_empty() {
        return Err(NotificationsError::Wrong(wrong));
    }
    let count = store::count(tx).await?;
    if count >= MOST {
        return Err(NotificationsError::TooManyTemplates(count));
    }
    if store::insert(tx, row.clone()).await? == 0 {
        return Err(NotificationsError::TemplateExists);
    }
    store::insert_version(tx, version.clone()).await?;
    let entry = Entry::new(
        TEMPLATE_ADD.name(),
        "notifications.template",
        row.id.to_string(),
    );
    let entry = entry.detail("key", row.key.clone());
    Ok(tx.audit(entry)?.of(TemplateBody::new(row, version)))
}

/// Makes another version of a template.
///
/// # Errors
///
/// As [`add`]; [`NotificationsError::NotFound`], [`NotificationsError::Changed`].
pub(crate) async fn change(
    tx: &mut TenantTx,
    id: TemplateId,
    seen: &IfMatch,
    patch: TemplatePatch,
) -> Result<Audited<TemplateBody>, NotificationsError> {
    let (row, newest) = find(tx, id).await?;
    seen.check(row.version)?;
    let now = Moment::now();
    let version = VersionRow {
        number: row.version + 1,
        subject: patch.subject.apply_to(newest.subject),
        text: patch.text.apply_to(newest.text),
        html: patch.html.apply_to(newest.html),
        title: patch.title.apply_to(newest.title),
        body: patch.body.apply_to(newest.body),
        created_at: now,
        ..newest
    };
    let wrong = wrong_parts(&version);
    if !wrong.is_empty() {
        return Err(NotificationsError::Wrong(wrong));
    }
    let description = patch.description.apply_to(row.description.clone());
    if store::advance(tx, id, version.number, description.clone()).await? == 0 {
        return Err(PreconditionFailed.into());
    }
    store::insert_version(tx, version.clone()).await?;
    let row = TemplateRow {
        version: version.number,
        description,
        updated_at: now,
        ..row
    };
    let entry = Entry::new(
        TEMPLATE_CHANGE.name(),
        "notifications.template",
        id.to_string(),
    );
    let entry = entry.detail("version", row.version.to_string());
    Ok(tx.audit(entry)?.of(TemplateBody::new(row, version)))
}

/// Deletes a template with its versions. What waits with it fails.
///
/// # Errors
///
/// [`NotificationsError::NotFound`], [`NotificationsError::Changed`].
pub(crate) async fn delete(
    tx: &mut TenantTx,
    id: TemplateId,
    seen: &IfMatch,
) -> Result<Audited<()>, NotificationsError> {
    let (row, _) = find(tx, id).await?;
    seen.check(row.version)?;
    if store::delete(tx, id, row.version).await? == 0 {
        return Err(PreconditionFailed.into());
    }
    let entry = Entry::new(
        TEMPLATE_DELETE.name(),
        "notifications.template",
        id.to_string(),
    );
    Ok(tx.audit(entry.detail("key", row.key))?.of(()))
}

/// What a version becomes with variables, for an invented recipient.
///
/// # Errors
///
/// [`NotificationsError::NotFound`]; [`NotificationsError::Wrong`] says which part fails, and why.
pub(crate) async fn render(
    tx: &mut TenantTx,
    id: TemplateId,
    asked: RenderAsked,
) -> Result<RenderedBody, NotificationsError> {
    let (row, newest) = find(tx, id).await?;
    let version = match asked.version {
        Some(number) if number != row.version => {
            let found = store::find_version(tx, id, number).await?;
            found.ok_or_else(|| {
                NotificationsError::field(
                    "version",
                    "unknown_version",
                    "is no version of the template",
                )
            })?
        }
        _ => newest,
    };
    if asked.data.contains_key(RECIPIENT) {
        let problem = "is what a template knows its recipient by";
        return Err(NotificationsError::field(
            "data.recipient",
            "reserved",
            problem,
        ));
    }
    let content = Content {
        data: asked.data,
        ..Content::default()
    };
    let recipient = Recipient {
        address: "ann@example.com",
        name: Some("Ann"),
        unsubscribe_url: Some("https://example.com/unsubscribe"),
    };
    let rendered = content.rendered(&sources(&version), &recipient);
    let rendered =
        rendered.map_err(|fault| NotificationsError::field(fault.part, "render", fault.problem))?;
    Ok(RenderedBody::new(version.number, &rendered))
}

/// The parts that are no templates; and all, if there is none.
fn wrong_parts(version: &VersionRow) -> Vec<WrongField> {
    let sources = sources(version);
    let parts = [
        version.text.as_ref(),
        version.html.as_ref(),
        version.body.as_ref(),
    ];
    if parts.iter().all(Option::is_none) {
        let problem = "is needed, unless there is `html` or `body`";
        return vec![WrongField::new("text", "missing_field", problem)];
    }
    let faults = sources.check().into_iter();
    let wrong = faults.map(|it| WrongField::new(it.part, "template", it.problem));
    wrong.collect()
}
