//! When a child gets no further life: it has finished, it failed too often, its threads will not end. And
//! how an operator gives it another one all the same.

use std::time::Instant;

use tracing::{error, info};

use super::{SupervisorActor, child::Conclusion};
use crate::{Cause, Escalation, Exhausted, Follow, Reason};

impl SupervisorActor {
    /// It ended by itself, and its restart rule says that this is as it should be.
    pub(crate) fn finish(&mut self, index: usize) {
        let child = &mut self.children[index];
        child.concluded = Some(Conclusion::Finished);
        child.ended_by = Some(Reason::FINISHED);
        child.recovers_from = None;
        child.settled = true;
        child.start_span = None;
        child.status = None;
        info!(
            actor.name = child.name(),
            actor.generation = child.generation,
            "{} `{}` has finished",
            child.kind(),
            child.name()
        );
    }

    /// A fault of a child that is never restarted.
    pub(crate) fn fail_without_restart(
        &mut self,
        index: usize,
        cause: Cause,
        reason: Reason,
        detail: &str,
    ) {
        let child = &mut self.children[index];
        child.concluded = Some(Conclusion::Failed);
        let (kind, name) = (child.kind(), child.name());
        error!(
            actor.name = name,
            actor.generation = child.generation,
            cause = cause.as_str(),
            reason = reason.as_str(),
            "{kind} `{name}` has failed, and is not restarted: {detail}"
        );
    }

    /// Its thread would not end. A successor may begin; the number of such threads is limited.
    pub(crate) fn abandon(&mut self, index: usize) {
        let child = &mut self.children[index];
        let generation = child.generation;
        let Some(life) = child.take_life() else {
            return;
        };
        error!(
            actor.name = child.name(),
            actor.generation = generation,
            leaked_threads = self.leaked.len() + 1,
            "gave up a thread of {} `{}` that did not end; it is fenced off and keeps its memory until it ends",
            child.kind(),
            child.name()
        );
        if let Some(asked) = life.asked_at {
            child.stopped = Some((asked.elapsed(), true));
        }
        self.leaked.push((index, generation));
        let (leaked, limit) = self.leaks_that_count_with(index);
        if leaked > limit {
            self.give_up(index, Reason::HUNG, Escalation::LeakedThreads { leaked });
        }
        self.note_stop(index);
    }

    /// How many threads were given up, and how many may be: of the child alone, if nothing else is to
    /// suffer from it; else of all children that escalate.
    fn leaks_that_count_with(&self, index: usize) -> (usize, usize) {
        let child = &self.children[index];
        let leaked = |counts: &dyn Fn(usize) -> bool| {
            let leaks = self.leaked.iter();
            leaks.filter(|(of, _)| counts(*of)).count()
        };
        match child.exhausted {
            Exhausted::Fail => (
                leaked(&|of| of == index),
                child.cell.policy.max_leaked_threads,
            ),
            Exhausted::Escalate => (
                leaked(&|of| self.children[of].exhausted == Exhausted::Escalate),
                self.policy.max_leaked_threads,
            ),
        }
    }

    /// No further life of this child; a life that it still has is stopped in good order. What follows for
    /// everything else is the child's own rule.
    pub(crate) fn give_up(&mut self, index: usize, reason: Reason, why: Escalation) {
        let child = &mut self.children[index];
        if child.has_failed() || self.halting {
            return;
        }
        child.concluded = Some(Conclusion::Failed);
        child.ended_by = Some(reason);
        let name = child.name();
        match child.exhausted {
            Exhausted::Fail => {
                let kind = child.kind();
                error!(
                    actor.name = name,
                    actor.generation = child.generation,
                    reason = reason.as_str(),
                    "{kind} `{name}` has failed permanently; everything else goes on: {why}; correct the cause, then \
                    run `restart {name}`"
                );
                self.bounce_followers(index, Cause::Dependency, |follow| follow == Follow::Always);
            }
            Exhausted::Escalate => {
                error!(
                    target: crate::EXIT,
                    { actor.name = name, reason = reason.as_str() },
                    "giving up: {why}"
                );
                self.escalation.send_if_modified(|current| {
                    let first = current.is_none();
                    if first {
                        *current = Some(why);
                    }
                    first
                });
            }
        }
    }

    /// A request of an operator: an orderly restart, no wait for the backoff, or another life for a child
    /// that has finished or failed. One whose failure ends the process gets none.
    pub(crate) fn restart_on_request(&mut self, index: usize) {
        let child = &mut self.children[index];
        let is_final = child.has_failed() && child.exhausted == Exhausted::Escalate;
        if child.is_live() && child.concluded.is_none() {
            self.bounce(index, Cause::Requested);
        } else if child.concluded.is_some() && !is_final && !self.halting {
            child.begin_again();
            info!(
                actor.name = child.name(),
                cause = Cause::Requested.as_str(),
                "{} `{}` starts again",
                child.kind(),
                child.name()
            );
        } else {
            child.not_before = Instant::now();
        }
    }
}
