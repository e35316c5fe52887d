//! `dotmac webhooks …`: what an operator can ask and do without the daemon.

use std::{str::FromStr, time::Duration};

use dotmac_platform::{
    Exit,
    db::{Db, DbError, TenantId, TenantScope, types::Moment},
    module::{CommandContext, ModuleCommand},
};

use crate::{
    WebhooksError,
    rules::deliveries as rules,
    store::{
        deliveries::{self, DeliveryId},
        endpoints::{self, EndpointId, Listed},
    },
};

/// What the acts of operators have as their actor.
const OPERATOR: &str = "an operator at the command line";

/// Outgoing webhooks.
#[derive(clap::Parser)]
pub(crate) enum WebhooksCommand {
    /// Print the endpoints of all tenants, the newest first. Of URLs the host is shown.
    List {
        /// Of this tenant.
        #[arg(long)]
        tenant: Option<TenantId>,
        /// At most so many, up to 1000.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    /// Restart a delivery.
    Replay {
        /// The id of the delivery.
        delivery: DeliveryId,
    },
    /// Restart all deliveries of an endpoint that failed or wait for another attempt.
    Recover {
        /// The id of the endpoint.
        endpoint: EndpointId,
        /// Those made since then: a time (RFC 3339), or how long ago, as `24h`.
        #[arg(long)]
        since: Since,
    },
}

/// A moment, or how long ago one was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Since(Moment);

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(Self(
                Moment::now() - ago.min(Duration::from_secs(400 * 24 * 3600)),
            ));
        }
        let at = chrono::DateTime::parse_from_rfc3339(text);
        let at =
            at.map_err(|_| "it is no time (`2026-11-29T12:00:00Z`) and no `24h`".to_owned())?;
        Ok(Self(at.with_timezone(&chrono::Utc).into()))
    }
}

impl ModuleCommand for WebhooksCommand {
    async fn run(self, on: CommandContext) -> Result<(), Exit> {
        let db = on.db().await?;
        let system = db.system("work on webhooks for an operator");
        let done = match self {
            Self::List { tenant, limit } => list(&system, tenant, limit).await,
            Self::Replay { delivery } => {
                let found = system.read("find webhook delivery", async move |c| {
                    deliveries::tenant_of(c, delivery).await
                });
                match found.await {
                    Ok(Some(tenant)) => {
                        let scope = TenantScope::system(tenant, OPERATOR);
                        replay(&db.tenant(&scope), delivery).await
                    }
                    Ok(None) => Err(WebhooksError::NoDelivery),
                    Err(error) => Err(WebhooksError::Db(error)),
                }
            }
            Self::Recover { endpoint, since } => {
                let found = system.read("find webhook", async move |c| {
                    endpoints::tenant_of(c, endpoint).await
                });
                match found.await {
                    Ok(Some(tenant)) => {
                        let scope = TenantScope::system(tenant, OPERATOR);
                        recover(&db.tenant(&scope), endpoint, since).await
                    }
                    Ok(None) => Err(WebhooksError::NotFound),
                    Err(error) => Err(WebhooksError::Db(error)),
                }
            }
        };
        done.map_err(|error| on.failed(error))
    }
}

async fn list(db: &Db, tenant: Option<TenantId>, limit: i64) -> Result<(), WebhooksError> {
    let found = db.read("list webhooks", async move |c| {
        endpoints::list_all(c, tenant, limit).await
    });
    let found: Result<Vec<Listed>, DbError> = found.await;
    found?.iter().for_each(print);
    Ok(())
}

/// The host of a URL: its path and query may be secrets.
fn host(url: &str) -> String {
    let url = url::Url::parse(url).ok();
    let host = url.as_ref().and_then(|url| url.host_str());
    host.unwrap_or("?").to_owned()
}

fn print(it: &Listed) {
    let reason = it.state_reason.as_ref();
    let reason = reason.map(|it| format!(" ({it})")).unwrap_or_default();
    println!(
        "{}  tenant {}  {}{reason}  {}  {}",
        it.id,
        it.tenant,
        it.state,
        host(&it.url),
        it.events.0.join(",")
    );
}

async fn replay(
    db: &dotmac_platform::db::TenantDb,
    delivery: DeliveryId,
) -> Result<(), WebhooksError> {
    use dotmac_platform::audit::Acts as _;
    let replayed = db.act("replay webhook delivery", async move |tx| {
        rules::replay(tx, delivery).await
    });
    let row = replayed.await?;
    println!("{}  {}  {}", row.id, row.state, row.kind);
    Ok(())
}

async fn recover(
    db: &dotmac_platform::db::TenantDb,
    endpoint: EndpointId,
    since: Since,
) -> Result<(), WebhooksError> {
    use dotmac_platform::audit::Acts as _;
    let recovered = db.act("recover webhook", async move |tx| {
        rules::recover(tx, endpoint, since.0).await
    });
    let recovered = recovered.await?;
    let more = if recovered.more {
        "; there may be more"
    } else {
        ""
    };
    println!("{} deliveries restarted{more}", recovered.recovered);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        let at = "2026-11-29T12:00:00Z"
            .parse::<Since>()
            .map(|it| it.0.to_string());
        assert_eq!(at.as_deref(), Ok("2026-11-29T12:00:00.000000Z"));
        let ago = "24h".parse::<Since>().map(|it| it.0 < Moment::now());
        assert_eq!(ago, Ok(true));
        assert!("yesterday".parse::<Since>().is_err());
    }

    #[test]
    fn of_a_url_the_host_is_shown() {
        assert_eq!(
            host("https://hooks.example/services/T0/secret?key=a"),
            "hooks.example"
        );
        assert_eq!(host("nonsense"), "?");
    }
}
