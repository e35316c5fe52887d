//! Takes requests apart, calls rules, puts answers together.

mod deliveries;
mod inbox;
mod notifications;
mod preferences;
mod push;
mod reports;
mod templates;
mod unsubscribe;

use std::time::Duration;

use dotmac_platform::{
    access::{Principal, PrincipalKind},
    module::Mount,
    routing::{RateLimit, Routes},
};

use crate::{
    error::NotificationsError,
    store::deliveries::{UserId, user_id},
};

const MINUTE: Duration = Duration::from_secs(60);

/// Requests of one caller.
const CALLS: RateLimit = RateLimit::per_principal(6000, MINUTE);

/// Requests by links, of one client network.
const LINKS: RateLimit = RateLimit::per_network(60, MINUTE);

/// The largest notification and template: their parts have their own limits.
const BODY: usize = 6 * 1024 * 1024;

/// The person who calls: an API key has neither an inbox nor preferences.
fn person(who: &Principal) -> Result<UserId, NotificationsError> {
    match who.kind {
        PrincipalKind::User => Ok(user_id(who.id)),
        PrincipalKind::Service | PrincipalKind::Key => Err(NotificationsError::NotAPerson),
    }
}

pub(crate) fn mount(on: &mut Mount<'_>) {
    let mut below = |prefix, declare: &dyn Fn(&mut Routes)| {
        on.routes(prefix, |routes| {
            // Addresses, and the content of messages.
            routes.no_store();
            declare(routes);
        });
    };
    below("/notifications", &|routes| {
        reports::declare(routes);
        notifications::declare(routes);
    });
    below("/deliveries", &deliveries::declare);
    below("/inbox", &inbox::declare);
    below("/preferences", &preferences::declare);
    below("/templates", &templates::declare);
    below("/push", &push::declare);
    below("/suppressions", &preferences::declare_suppressions);
    below("/u", &unsubscribe::declare);
}
