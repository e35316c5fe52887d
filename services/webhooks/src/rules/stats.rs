//! How an endpoint does.

use std::time::Duration;

use dotmac_platform::{
    db::{TenantTx, types::Moment},
    delivery::LaneRules,
};

use super::endpoints;
use crate::{
    WebhooksError,
    bodies::StatsBody,
    store::{attempts, deliveries, endpoints::EndpointId, lanes, states::DeliveryState},
};

/// Attempts and deliveries of that time are counted.
const RECENT: Duration = Duration::from_secs(24 * 3600);

/// Attempts that are counted.
const MOST_ATTEMPTS: i64 = 10_000;

/// What deliveries and attempts of the last day came to.
///
/// # Errors
///
/// [`WebhooksError::NotFound`].
pub(crate) async fn of(
    tx: &mut TenantTx,
    rules: &LaneRules,
    endpoint: EndpointId,
) -> Result<StatsBody, WebhooksError> {
    endpoints::find(tx, endpoint).await?;
    let now = Moment::now();
    let since = now - RECENT;
    let counts = deliveries::count(tx, endpoint, since).await?;
    let count = |state: DeliveryState| {
        let found = counts.iter().find(|(it, _)| *it == state);
        found.map_or(0, |(_, count)| *count)
    };
    let figures = attempts::figures(tx, endpoint, since, MOST_ATTEMPTS).await?;
    let succeeded = figures.iter().filter(|(_, status)| is_success(*status));
    let succeeded = i64::try_from(succeeded.count()).unwrap_or(i64::MAX);
    let mut durations: Vec<i64> = figures.iter().map(|(duration, _)| *duration).collect();
    durations.sort_unstable();
    let row = lanes::find(tx, endpoint).await?;
    let lane = row.as_ref().map(|row| row.lane()).unwrap_or_default();
    Ok(StatsBody {
        pending: count(DeliveryState::Pending),
        sending: count(DeliveryState::Sending),
        delivered: count(DeliveryState::Delivered),
        failed: count(DeliveryState::Failed),
        attempts: i64::try_from(figures.len()).unwrap_or(i64::MAX),
        succeeded,
        duration_ms_p50: percentile(&durations, 50),
        duration_ms_p95: percentile(&durations, 95),
        concurrency: lane.room(rules, 0, now),
        failures: lane.failures,
        failing_since: lane.failing_since,
        held_until: lane.held_until.filter(|until| *until > now),
        last_success_at: row.as_ref().and_then(|row| row.last_success_at),
        last_failure_at: row.as_ref().and_then(|row| row.last_failure_at),
    })
}

const fn is_success(status: Option<i32>) -> bool {
    matches!(status, Some(200..=299))
}

/// The smallest of `sorted` that `percent` of 100 do not exceed.
fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    let place = (sorted.len() * percent).div_ceil(100);
    sorted.get(place.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_there_are() {
        let hundred: Vec<i64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 50), Some(50));
        assert_eq!(percentile(&hundred, 95), Some(95));
        assert_eq!(percentile(&[7], 95), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }
}
