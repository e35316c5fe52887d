//! The supervisor's actions on a child: restarts, following, orderly stops. When it gets no further life is in
//! `conclusion`.
//!
//! Two loops move everything (`pump`): backwards, stop what no running child depends on; forwards,
//! begin what has its needs met. Ordered start, ordered stop, following and shutdown are that one rule.

use std::{sync::Arc, time::Instant};

use tracing::{Span, info, info_span, warn};

use super::{
    SupervisorActor,
    child::{Child, Conclusion, Life, Phase},
};
use crate::{Cause, ChildStop, Escalation, Follow, Lifeline, Need, Reason, Restart};

impl SupervisorActor {
    /// A life has failed: callers are refused, its thread must end, another begins later.
    pub(crate) fn fault(
        &mut self,
        index: usize,
        cause: Cause,
        reason: Option<Reason>,
        detail: &str,
    ) {
        let now = Instant::now();
        let child = &mut self.children[index];
        if !child.is_live() {
            return;
        }
        let stable = child.cell.policy.period / 2;
        if matches!(child.phase, Phase::Up { since, .. } if now.duration_since(since) >= stable) {
            child.attempt = 0;
            child.failed_runs = 0;
        }
        let Some(mut life) = child.take_life() else {
            return;
        };
        life.lifeline.revoke();
        life.incarnation.end();
        let deadline = now + child.cell.policy.stop_timeout;
        child.phase = Phase::Stopping {
            life,
            deadline,
            forced: true,
        };
        self.book_fault(index, cause, reason, detail);
        self.bounce_followers(index, Cause::Dependency, |follow| follow == Follow::Always);
    }

    /// Counts and logs a fault, and sets when the next life may begin, if there is to be one.
    fn book_fault(&mut self, index: usize, cause: Cause, reason: Option<Reason>, detail: &str) {
        let now = Instant::now();
        let child = &mut self.children[index];
        let policy = &child.cell.policy;
        let reason = reason.unwrap_or(cause.reason());
        child.ended_by = Some(reason);
        child.unreported_end = Some(cause);
        child.recovers_from = Some(reason);
        child.settled = true;
        child.start_span = None;
        child.status = None;
        child.cell.count_restart(cause);
        if child.concluded.is_some() {
            return;
        }
        if child.restart == Restart::Temporary {
            self.fail_without_restart(index, cause, reason, detail);
            return;
        }
        let delay = match cause {
            Cause::Upstream => policy.restart_delay(u32::MAX),
            Cause::RunFailed => {
                child.failed_runs = child.failed_runs.saturating_add(1);
                policy.restart_delay(child.failed_runs)
            }
            _ => {
                // Only what counts makes this delay longer: a policy that can escalate relies on it.
                child.attempt = child.attempt.saturating_add(1);
                policy.restart_delay(child.attempt)
            }
        };
        child.cell.set_retry_in(delay);
        child.not_before = now + delay;
        let exhausted = cause.counts() && child.window.exceeded_by(now, policy);
        let (kind, name) = (child.kind(), child.name());
        warn!(
            actor.name = name,
            actor.generation = child.generation,
            cause = cause.as_str(),
            reason = reason.as_str(),
            backoff_ms = (!exhausted).then_some(delay.as_millis() as u64),
            "{} {kind} `{name}`: {detail}",
            if exhausted {
                "no more restarts for"
            } else {
                "restarting"
            }
        );
        if exhausted {
            let why = Escalation::Intensity {
                child: name,
                reason,
                intensity: policy.intensity,
                period: policy.period,
            };
            self.give_up(index, reason, why);
        }
    }

    /// Marks the live children that follow `index` in one of the ways that `follow` accepts.
    pub(crate) fn bounce_followers(
        &mut self,
        index: usize,
        cause: Cause,
        follow: impl Fn(Follow) -> bool,
    ) {
        for follower in index + 1..self.children.len() {
            if self.children[follower].needs_child(index, &follow)
                && self.children[follower].is_live()
            {
                self.bounce(follower, cause);
            }
        }
    }

    /// Marks a child, and those that always follow it, for an orderly restart.
    pub(crate) fn bounce(&mut self, index: usize, cause: Cause) {
        let child = &mut self.children[index];
        if child.bounce.is_none() {
            child.bounce = Some(cause);
            info!(
                actor.name = child.name(),
                cause = cause.as_str(),
                "{} `{}` is restarted in order",
                child.kind(),
                child.name()
            );
            self.bounce_followers(index, Cause::Dependency, |follow| follow == Follow::Always);
        }
    }

    /// Restarts the followers that took another version of `index`.
    pub(crate) fn bounce_outdated(&mut self, index: usize, version: u64) {
        for follower in index + 1..self.children.len() {
            let child = &self.children[follower];
            let outdated = child.needs.iter().zip(&child.taken).any(|(need, taken)| {
                need.child == index
                    && need.follow == Follow::OnChange
                    && taken.is_some_and(|taken| taken != version)
            });
            if outdated && child.is_live() {
                self.bounce(follower, Cause::Dependency);
            }
        }
    }

    /// Books the end of an orderly stop.
    pub(crate) fn note_stop(&mut self, index: usize) {
        let child = &mut self.children[index];
        child.stop_span = None;
        if let Some((took, abandoned)) = child.stopped.take()
            && self.halting
        {
            self.stopped.push(ChildStop {
                name: child.name(),
                took,
                abandoned,
            });
        }
    }

    /// Moves every child as far as it can go now.
    pub(crate) fn pump(&mut self) {
        let now = Instant::now();
        for index in (0..self.children.len()).rev() {
            if self.should_stop(index) {
                self.stop_in_good_order(index, now);
            }
        }
        for index in 0..self.children.len() {
            if self.may_begin(index, now) {
                self.begin(index, now);
            }
        }
    }

    fn should_stop(&self, index: usize) -> bool {
        let child = &self.children[index];
        // A halt goes strictly backwards; else only those that always follow hold their leader up.
        let holds_up = |follower: &Child| {
            let follows = follower.needs_child(index, |follow| follow == Follow::Always);
            follower.is_running() && (self.halting || follows)
        };
        child.is_live()
            && (self.halting || child.has_failed() || child.bounce.is_some())
            && !self.children[index + 1..].iter().any(holds_up)
    }

    fn stop_in_good_order(&mut self, index: usize, now: Instant) {
        let child = &mut self.children[index];
        let deadline = now + child.cell.policy.stop_timeout;
        let cause = child.bounce;
        let Some(mut life) = child.take_life() else {
            return;
        };
        // New callers are refused; those under way may still be answered.
        life.lifeline.retire();
        life.asked_at = Some(now);
        child.stop_span = self
            .halt_span
            .as_ref()
            .map(|halt| info_span!(parent: halt, "stop component", component = child.name()));
        let span = child.stop_span.clone();
        life.incarnation.shut_down(span.unwrap_or_else(Span::none));
        child.phase = Phase::Stopping {
            life,
            deadline,
            forced: false,
        };
        child.not_before = now;
        child.status = None;
        child.start_span = None;
        if let Some(cause) = cause {
            child.ended_by = Some(cause.reason());
            child.unreported_end = Some(cause);
            child.cell.count_restart(cause);
            if child.restart == Restart::Temporary && cause != Cause::Requested {
                child.concluded = Some(Conclusion::Finished);
            }
        }
    }

    pub(crate) fn needs_met(&self, index: usize) -> bool {
        self.children[index].needs.iter().all(|need| {
            let needed = &self.children[need.child];
            match need.follow {
                Follow::Always | Follow::OnChange | Follow::ToStart => {
                    needed.has_finished() || needed.serving().is_some() && needed.bounce.is_none()
                }
                Follow::InOrder => self.has_settled(need.child),
            }
        })
    }

    /// Whether the state of a child is known: it has reported, or waits for a child with a known state that does not
    /// serve. What is optional and away must not hold up everything else for ever.
    pub(crate) fn has_settled(&self, index: usize) -> bool {
        let child = &self.children[index];
        let waits_in_vain = |need: &Need| {
            need.follow != Follow::InOrder
                && self.children[need.child].serving().is_none()
                && self.has_settled(need.child)
        };
        child.settled || child.needs.iter().any(waits_in_vain)
    }

    fn may_begin(&self, index: usize, now: Instant) -> bool {
        let child = &self.children[index];
        let off = !child.is_running() && now >= child.not_before;
        let follower_left = |follower: &Child| {
            follower.is_running() && follower.needs_child(index, |follow| follow == Follow::Always)
        };
        off && child.concluded.is_none()
            && !self.halting
            && self.needs_met(index)
            && !self.children[index + 1..].iter().any(follower_left)
    }

    fn begin(&mut self, index: usize, now: Instant) {
        let taken = self.children[index]
            .needs
            .iter()
            .map(|need| {
                self.children[need.child]
                    .serving()
                    .map(|serving| serving.version)
            })
            .collect();
        let supervisor = self.address.clone();
        let child = &mut self.children[index];
        child.generation += 1;
        child.status = None;
        child.bounce = None;
        child.taken = taken;
        child.first_begun.get_or_insert(now);
        let span = match &self.startup {
            Some(startup) => {
                info_span!(parent: startup, "start component", component = child.name())
            }
            None => info_span!(parent: None, "restart component", component = child.name()),
        };
        child.start_span = Some(span.clone());
        child.cell.begin_life(child.generation);
        let lifeline = Lifeline::new(
            index,
            child.generation,
            Arc::clone(&child.cell),
            Arc::clone(&child.slots),
            supervisor,
            child.recovers_from,
        );
        match child.incarnate.begin(lifeline.clone(), span) {
            Ok(incarnation) => {
                let deadline = now + child.cell.policy.start_timeout;
                child.phase = Phase::Starting {
                    life: Life {
                        lifeline,
                        incarnation,
                        asked_at: None,
                    },
                    deadline,
                };
            }
            Err(error) => {
                lifeline.revoke();
                self.book_fault(
                    index,
                    Cause::ThreadLost,
                    None,
                    &format!("could not start its thread: {error}"),
                );
            }
        }
    }
}
