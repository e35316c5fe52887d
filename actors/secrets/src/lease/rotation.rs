//! Keeps the token and the leased credentials good: renews, replaces before the end, gives back.
//!
//! New credentials come before the old ones go. A replaced lease is renewed while it is in use, and then revoked.

use std::{
    mem,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::FutureExt;
use secrecy::ExposeSecret;
use tokio::{sync::Notify, time::Instant};
use tracing::{Instrument, Span, debug, info, info_span, warn};

use super::clock::{Due, LeaseClock};
use crate::{
    DatabaseRole, SecretsError, Vault,
    backoff::Backoff,
    vault::{Failure, Issued, Lease, LeaseLookup, Outbox, Revocation},
};

/// Revocations that are kept for later while Vault is away; leases end by themselves as well.
const REVOCATIONS_KEPT: usize = 256;

/// Between replacements that are asked for because credentials were refused.
const DEMAND_PAUSE: Duration = Duration::from_secs(1);

/// Events for the actor.
pub(crate) enum RotationEvent {
    /// There are other credentials.
    Issued(Issued),
    /// All is well, and the present ones are good until then.
    Kept(Option<Instant>),
    /// A due action failed.
    Failed(SecretsError),
    /// The credentials have ended.
    Expired,
}

/// Looks after one session and the credentials of one role, if there is one.
pub(crate) struct Rotation {
    vault: Arc<Vault>,
    outbox: Arc<Outbox>,
    role: Option<DatabaseRole>,
    /// Rung when the present credentials were seen refused.
    demand: Arc<Notify>,
    /// Rung when Vault answers again: the wait after a failure is over.
    answers: Arc<Notify>,
    refresh: Duration,
    present: Option<Issued>,
    former: Vec<(Weak<Lease>, LeaseClock)>,
    backoff: Backoff,
    not_before: Option<Instant>,
    look_at: Instant,
    demanded: bool,
    issued_at: Option<Instant>,
    ended: bool,
    waiting: Vec<Revocation>,
    revoke_at: Option<Instant>,
    may_not_revoke: bool,
    /// The parent span of the first login and the first credentials: the trace of the start.
    cause: Span,
}

impl Rotation {
    pub(crate) fn new(
        vault: &Arc<Vault>,
        role: Option<DatabaseRole>,
        (demand, answers): (Arc<Notify>, Arc<Notify>),
        refresh: Duration,
        backoff: Backoff,
    ) -> Self {
        Self {
            outbox: Arc::clone(vault.outbox()),
            vault: Arc::clone(vault),
            role,
            demand,
            answers,
            refresh,
            present: None,
            former: Vec::new(),
            backoff,
            not_before: None,
            look_at: Instant::now(),
            demanded: false,
            issued_at: None,
            ended: false,
            waiting: Vec::new(),
            revoke_at: None,
            may_not_revoke: false,
            cause: Span::current(),
        }
    }

    /// Waits until something is to be done, and does it, until there is news.
    pub(crate) async fn step(mut self) -> (Self, RotationEvent) {
        loop {
            self.wait().await;
            self.give_back().await;
            if let Some(news) = self.maintain().await {
                return (self, news);
            }
        }
    }

    async fn wait(&mut self) {
        let due = self.next_due().await;
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = self.outbox.filled() => {}
            () = self.demand.notified() => self.demanded = true,
            () = self.answers.notified() => {
                // Still set, as the sign that the last attempt failed.
                self.not_before = self.not_before.map(|at| at.min(Instant::now()));
            }
        }
    }

    async fn next_due(&self) -> Instant {
        let now = Instant::now();
        let at = |clock: &LeaseClock| match clock.due(now) {
            Due::At(at) => at,
            _ => now,
        };
        let mut moments = vec![now + self.refresh];
        moments.extend(self.revoke_at);
        if let Some(not_before) = self.not_before {
            moments.push(not_before);
            let end = self.present.as_ref().and_then(|it| it.clock.end());
            moments.extend(end.filter(|_| !self.ended));
        } else {
            moments.extend(self.vault.session_due().await);
            moments.extend(self.former.iter().map(|(_, clock)| at(clock)));
            match (&self.role, &self.present) {
                (None, _) => {}
                (Some(_), None) => return now,
                (Some(_), Some(_)) if self.demanded => moments.push(self.demand_at(now)),
                (Some(_), Some(present)) => moments.extend([at(&present.clock), self.look_at]),
            }
        }
        moments.into_iter().min().unwrap_or(now)
    }

    fn demand_at(&self, now: Instant) -> Instant {
        self.issued_at.map_or(now, |at| at + DEMAND_PAUSE)
    }

    async fn maintain(&mut self) -> Option<RotationEvent> {
        let now = Instant::now();
        let end = self.present.as_ref().and_then(|it| it.clock.end());
        if end.is_some_and(|end| now >= end) && !mem::replace(&mut self.ended, true) {
            // In any case no consumer may go on with an expired lease.
            return Some(RotationEvent::Expired);
        }
        if self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        let cause = mem::replace(&mut self.cause, Span::none());
        let span = info_span!(parent: &cause, "keep credentials");
        match self.advance().instrument(span).await {
            Ok(news) => {
                self.backoff.note(false);
                let was_failing = self.not_before.take().is_some();
                let kept =
                    || RotationEvent::Kept(self.present.as_ref().map(|it| it.clock.horizon()));
                news.or_else(|| was_failing.then(kept))
            }
            Err(error) => {
                self.backoff.note(true);
                let wait = self.backoff.wait(fastrand::f64()).unwrap_or_default();
                let wait = error.pause().map_or(wait, |pause| pause.max(wait));
                self.not_before = Some(Instant::now() + wait);
                Some(RotationEvent::Failed(error))
            }
        }
    }

    /// Does the one thing that is due.
    async fn advance(&mut self) -> Result<Option<RotationEvent>, SecretsError> {
        let session = self.vault.keep_session().await?;
        let Some(role) = self.role.clone() else {
            return Ok(None);
        };
        self.renew_former(&role).await;
        let Some(present) = &mut self.present else {
            return self.replace(&role).await.map(Some);
        };
        let now = Instant::now();
        // A lease dies with the token that made it: after another login there must be another lease.
        let orphaned = present.lease.id.is_some() && present.lease.session.serial != session.serial;
        let demanded = self.demanded && self.issued_at.is_none_or(|at| now >= at + DEMAND_PAUSE);
        if orphaned || demanded {
            return self.replace(&role).await.map(Some);
        }
        match present.clock.due(now) {
            Due::At(_) if now < self.look_at => Ok(None),
            Due::At(_) => {
                let look = self.vault.look_at_lease(&present.lease, &role).await?;
                let pause = self.refresh.mul_f64(0.9 + 0.2 * fastrand::f64());
                self.look_at = Instant::now() + pause;
                match look {
                    LeaseLookup::Gone => {
                        warn!(
                            secrets.role = role.name,
                            "the lease of credentials was revoked from outside; getting others"
                        );
                        self.replace(&role).await.map(Some)
                    }
                    LeaseLookup::Left(left)
                        if now + left + LOOK_SLACK < present.clock.horizon() =>
                    {
                        present.clock = present.clock.renewed(now, left, fastrand::f64());
                        Ok(Some(RotationEvent::Kept(Some(present.clock.horizon()))))
                    }
                    LeaseLookup::Left(_) | LeaseLookup::Unknown => Ok(None),
                }
            }
            Due::Renew => match self.vault.renew_lease(&present.lease, &role).await? {
                Some(life) => {
                    present.clock = present.clock.renewed(now, life, fastrand::f64());
                    debug!(
                        secrets.role = role.name,
                        ?life,
                        "renewed the lease of credentials"
                    );
                    Ok(Some(RotationEvent::Kept(Some(present.clock.horizon()))))
                }
                None => self.replace(&role).await.map(Some),
            },
            Due::Replace | Due::Ended => self.replace(&role).await.map(Some),
        }
    }

    async fn replace(&mut self, role: &DatabaseRole) -> Result<RotationEvent, SecretsError> {
        let issued = self.vault.issue(role).await?;
        let now = Instant::now();
        self.demanded = false;
        // A refusal in between is about the former ones.
        self.demand.notified().now_or_never();
        self.issued_at = Some(now);
        self.look_at = now + self.refresh;
        if let Some(present) = &mut self.present
            && present.lease.id.is_none()
            && present.password.expose_secret() == issued.password.expose_secret()
        {
            // A static role whose password has not changed yet.
            present.clock = issued.clock;
            return Ok(RotationEvent::Kept(Some(issued.clock.horizon())));
        }
        self.ended = false;
        let life = issued.clock.horizon().saturating_duration_since(now);
        info!(
            secrets.role = role.name,
            leased = issued.lease.id.is_some(),
            life_s = life.as_secs(),
            "got credentials for `{}`",
            role.name
        );
        if let Some(former) = self.present.replace(issued.clone()) {
            self.former
                .push((Arc::downgrade(&former.lease), former.clock));
        }
        Ok(RotationEvent::Issued(issued))
    }

    /// Work that began with former credentials may take longer than their lease had left.
    async fn renew_former(&mut self, role: &DatabaseRole) {
        let now = Instant::now();
        self.former.retain(|(lease, clock)| {
            lease.strong_count() > 0 && matches!(clock.due(now), Due::At(_) | Due::Renew)
        });
        for (lease, clock) in &mut self.former {
            if clock.due(now) != Due::Renew {
                continue;
            }
            let Some(lease) = lease.upgrade() else {
                continue;
            };
            let life = self.vault.renew_lease(&lease, role).await.ok().flatten();
            *clock = clock.renewed(now, life.unwrap_or_default(), fastrand::f64());
        }
    }

    /// Revokes leases without a holder. What fails for want of a connection is kept for later.
    async fn give_back(&mut self) {
        let due = self.revoke_at.is_none_or(|at| Instant::now() >= at);
        self.waiting.extend(self.outbox.take());
        if self.waiting.is_empty() || !due {
            return;
        }
        self.revoke_at = None;
        self.revoke_waiting()
            .instrument(info_span!("give credentials back"))
            .await;
    }

    async fn revoke_waiting(&mut self) {
        // Each keeps its place until its fate is known: this may be cancelled at any await.
        let (mut kept, mut pause) = (0, Duration::ZERO);
        while let Some(revocation) = self.waiting.get(kept) {
            let done = match revocation {
                Revocation::Lease { id, session } => self.vault.revoke_lease(id, session).await,
                Revocation::Token(token) => self.vault.revoke_token(token).await,
            };
            match done {
                Ok(()) => debug!("revoked a lease or a token in Vault"),
                // An unknown token gets the same 403; another login follows.
                Err(Failure::Call(denial)) if denial.is_policy_denial() => {
                    if !mem::replace(&mut self.may_not_revoke, true) {
                        warn!(
                            "no permission to revoke leases; grant it with \
                             `path \"sys/leases/revoke\" {{ capabilities = [\"update\"] }}` in a policy of this login"
                        );
                    }
                }
                Err(failure) => {
                    pause = pause.max(failure.pause().unwrap_or_default());
                    kept += 1;
                    continue;
                }
            }
            drop(self.waiting.remove(kept));
        }
        if !self.waiting.is_empty() {
            let surplus = self.waiting.len().saturating_sub(REVOCATIONS_KEPT);
            self.waiting.drain(..surplus);
            let wait = REVOKE_AGAIN.mul_f64(1.0 + fastrand::f64());
            self.revoke_at = Some(Instant::now() + wait.max(pause));
        }
    }
}

/// Leases that could not be revoked yet are left to the next life, or to `revoke_all`.
impl Drop for Rotation {
    fn drop(&mut self) {
        for revocation in self.waiting.drain(..) {
            self.outbox.put(revocation);
        }
    }
}

/// A look answers in whole seconds.
const LOOK_SLACK: Duration = Duration::from_secs(2);

/// Between two attempts to revoke while Vault is away, doubled at most by jitter.
const REVOKE_AGAIN: Duration = Duration::from_secs(1);
