//! Templates.

use std::collections::BTreeSet;

use dotmac_platform::{access::Identity, audit::Acts as _, db::TenantTx, prelude::*};

use super::{BODY, CALLS, notifications::caller_may};
use crate::{
    ReadTemplates, Write, WriteTemplates,
    bodies::{
        NewNotification, NewRecipient, NewTemplate, RenderAsked, RenderedBody, SentBody,
        TemplateBody, TemplatePatch, TemplateRef, TemplateVersionRef, TestAsked, VersionBody,
    },
    channel::Channel,
    error::NotificationsError,
    rules::{recipients, send, templates as rules},
    service::Service,
    store::templates::{self as store, TemplateId},
};

/// What a test is about: preferences can switch it off, as any other.
const TEST: &str = "template_test";

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_templates)
        .summary("The tenant's templates, by key");
    routes
        .post("", add_template)
        .summary("Add a template")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .get("/{id}", find_template)
        .summary("One template, in its newest version");
    routes
        .patch("/{id}", change_template)
        .summary("Make a new version of a template")
        .body_limit(BODY);
    routes
        .delete("/{id}", delete_template)
        .summary("Delete a template with its versions");
    routes
        .get("/{id}/versions", list_versions)
        .summary("The newest 200 versions of a template");
    routes
        .post("/{id}/render", render_template)
        .summary("Render a template")
        .rate_limit(CALLS);
    routes
        .post("/{id}/test", test_template)
        .summary("Send a test mail of a template")
        .rate_limit(CALLS);
}

fn versioned(body: TemplateBody) -> Versioned<TemplateBody> {
    let (version, body) = (body.version, body);
    Versioned { version, body }
}

async fn list_templates(
    who: Can<ReadTemplates>,
    on: Use<Service>,
    paging: Paging,
) -> Result<Page<TemplateBody>, NotificationsError> {
    let scope = CursorScope::of(who.tenant, "templates");
    let (window, db) = (paging.window(&scope)?, on.db.tenant(&who.scope()));
    let found = db.read("list templates", async move |tx| {
        let found = rows!(window, |after, limit| store::page(tx, after, limit))?;
        let mut rows = Vec::with_capacity(found.rows.len());
        for row in found.rows {
            let (row, newest) = rules::find(tx, row.id).await?;
            rows.push(TemplateBody::new(row, newest));
        }
        let total = found.total;
        Ok::<_, NotificationsError>(Rows { rows, total })
    });
    Ok(paging.page(&scope, found.await?, |it| it.key.clone()))
}

async fn add_template(
    who: Can<WriteTemplates>,
    on: Use<Service>,
    new: Valid<NewTemplate>,
    once: Idempotency,
) -> Result<Created<Versioned<TemplateBody>>, NotificationsError> {
    let (db, new) = (on.db.tenant(&who.scope()), new.into_inner());
    let added = db.act("add template", async move |tx| {
        let added = rules::add(tx, new).await?;
        Ok::<_, NotificationsError>(added.map(|body| {
            let location = format!("/api/v1/templates/{}", body.id);
            let body = versioned(body);
            once.keep(tx, Created { location, body })
        }))
    });
    added.await
}

async fn find_template(
    who: Can<ReadTemplates>,
    on: Use<Service>,
    id: Path<TemplateId>,
) -> Result<Versioned<TemplateBody>, NotificationsError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find template", async move |tx| rules::find(tx, *id).await);
    let (row, newest) = found.await?;
    Ok(versioned(TemplateBody::new(row, newest)))
}

async fn change_template(
    who: Can<WriteTemplates>,
    on: Use<Service>,
    id: Path<TemplateId>,
    seen: IfMatch,
    patch: Valid<TemplatePatch>,
) -> Result<Versioned<TemplateBody>, NotificationsError> {
    let (db, patch) = (on.db.tenant(&who.scope()), patch.into_inner());
    let changed = db.act("change template", async move |tx| {
        rules::change(tx, *id, &seen, patch).await
    });
    Ok(versioned(changed.await?))
}

async fn delete_template(
    who: Can<WriteTemplates>,
    on: Use<Service>,
    id: Path<TemplateId>,
    seen: IfMatch,
) -> Result<NoContent, NotificationsError> {
    let db = on.db.tenant(&who.scope());
    let deleted = db.act("delete template", async move |tx| {
        rules::delete(tx, *id, &seen).await
    });
    deleted.await?;
    Ok(NoContent)
}

async fn list_versions(
    who: Can<ReadTemplates>,
    on: Use<Service>,
    id: Path<TemplateId>,
) -> Result<Page<VersionBody>, NotificationsError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("list versions of a template", async move |tx| {
        rules::find(tx, *id).await?;
        Ok::<_, NotificationsError>(store::versions(tx, *id).await?)
    });
    let found = found.await?.into_iter().map(VersionBody::from);
    Ok(Page::whole(found.collect()))
}

async fn render_template(
    who: Can<ReadTemplates>,
    on: Use<Service>,
    id: Path<TemplateId>,
    asked: Valid<RenderAsked>,
) -> Result<Json<RenderedBody>, NotificationsError> {
    let (db, asked) = (on.db.tenant(&who.scope()), asked.into_inner());
    let rendered = db.read("render template", async move |tx| {
        rules::render(tx, *id, asked).await
    });
    Ok(Json(rendered.await?))
}

async fn test_template(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<TemplateId>,
    asked: Valid<TestAsked>,
    once: Idempotency,
) -> Result<Accepted<SentBody>, NotificationsError> {
    let may = caller_may(&on, &who);
    let (service, asked) = (on.0.clone(), asked.into_inner());
    let (principal, db) = ((**who).clone(), on.db.tenant(&who.scope()));
    let sent = db.act("send test mail", async move |tx| {
        // Refused here: a body names its template, a path has it.
        rules::find(tx, *id).await?;
        let new = test_mail(tx, &service, &principal, *id, asked).await?;
        let sent = send::send(tx, &service, may, new).await?;
        Ok::<_, NotificationsError>(sent.map(|body| {
            let location = format!("/api/v1/notifications/{}", body.id);
            once.keep(tx, Accepted { location, body })
        }))
    });
    sent.await
}

/// A notification of that template to one address.
async fn test_mail(
    tx: &mut TenantTx,
    service: &Service,
    who: &Identity,
    id: TemplateId,
    asked: TestAsked,
) -> Result<NewNotification, NotificationsError> {
    let to = match asked.to {
        Some(to) => to,
        None => {
            let users = BTreeSet::from([who.id]);
            let contacts = recipients::contacts(tx, service, &users).await?;
            let contacts = contacts.ok_or(NotificationsError::NoDirectory)?;
            let own = contacts.get(&who.id).and_then(|it| it.email.clone());
            let own = own.ok_or_else(|| {
                NotificationsError::field(
                    "to",
                    "missing_field",
                    "is needed: the caller has no address",
                )
            })?;
            own.as_str().to_owned()
        }
    };
    let recipient = NewRecipient {
        user: None,
        email: Some(to),
        phone: None,
        url: None,
    };
    Ok(NewNotification {
        template: Some(TemplateRef::Version(TemplateVersionRef {
            key: id.to_string(),
            version: asked.version,
        })),
        content: None,
        data: Some(asked.data),
        to: vec![recipient],
        attachments: None,
        channels: Some(vec![Channel::Email]),
        category: Some(TEST.to_owned()),
        priority: None,
        send_at: None,
        expires_at: None,
        digest: None,
    })
}
