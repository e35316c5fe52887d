//! Links by which recipients unsubscribe: a page that changes nothing, and one click that does (RFC 8058).

use dotmac_platform::{
    audit::Acts as _,
    db::TenantScope,
    prelude::*,
    routing::{Html, escaped},
};

use super::LINKS;
use crate::{
    channel::TRANSACTIONAL,
    error::{Missing, NotificationsError},
    rules::suppress,
    service::Service,
    store::{
        deliveries::{self, DeliveryRow},
        notifications,
    },
};

/// Characters of a token.
const TOKEN: usize = 32;

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("/{token}", show_unsubscribe)
        .summary("A page with a button to unsubscribe; it changes nothing")
        .secret_path()
        .rate_limit(LINKS);
    routes
        .post("/{token}", unsubscribe)
        .summary("Unsubscribe the recipient of a mail from its category, by one click")
        .description("The body of a mail program, `List-Unsubscribe=One-Click`, is optional.")
        .secret_path()
        .rate_limit(LINKS);
}

async fn find(on: &Service, token: &str) -> Result<DeliveryRow, NotificationsError> {
    let is_token = token.len() == TOKEN && token.bytes().all(|it| it.is_ascii_hexdigit());
    let missing = || NotificationsError::NotFound(Missing::Link);
    if !is_token {
        return Err(missing());
    }
    let token = token.to_ascii_lowercase();
    let found = on
        .open_db
        .read("find delivery by its link", async move |c| {
            deliveries::find_by_token(c, token).await
        });
    found.await?.ok_or_else(missing)
}

async fn show_unsubscribe(
    _: Public,
    on: Use<Service>,
    token: Path<String>,
) -> Result<Html, NotificationsError> {
    let delivery = find(&on, &token).await?;
    let recipient = escaped(&delivery.recipient);
    Ok(Html(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Unsubscribe</title></head><body>\
         <h1>Unsubscribe</h1><p>No more messages of this kind to {recipient}?</p>\
         <form method=\"post\"><button name=\"List-Unsubscribe\" value=\"One-Click\">Unsubscribe</button></form>\
         </body></html>"
    )))
}

async fn unsubscribe(
    _: Public,
    on: Use<Service>,
    token: Path<String>,
) -> Result<String, NotificationsError> {
    let delivery = find(&on, &token).await?;
    let scope = TenantScope::system(delivery.tenant_id, "unsubscribe by a link");
    let db = on.db.tenant(&scope);
    let done = db.act("unsubscribe", async move |tx| {
        let notification = notifications::find(tx, delivery.notification_id).await?;
        // What concerns a recipient personally has no link: its token is of the sender's address.
        let notification = notification.filter(|it| it.category != TRANSACTIONAL);
        let notification = notification.ok_or(NotificationsError::NotFound(Missing::Link))?;
        suppress::unsubscribed(tx, &delivery, &notification.category).await
    });
    done.await?;
    Ok("You are unsubscribed.\n".to_owned())
}
