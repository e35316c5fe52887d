//! What the actor does after each reading: pure rules, so that they can be read and tested alone.
//!
//! | after a reading that … | strict and never loaded | otherwise |
//! |---|---|---|
//! | brought everything | publish, `ready` | publish, `ready` |
//! | failed, in part or whole | `unavailable`, publish nothing | publish what there is, `degraded` |

use std::{sync::Arc, time::Duration};

use super::{SecretStore, loader::Loaded};
use crate::supervision::{Reason, Serving};

/// What the supervisor is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Ready(Serving),
    Degraded(Reason, Serving),
    Unavailable(Reason),
}

/// What is worth a line of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// As it was before.
    None,
    /// The first complete reading.
    Loaded,
    /// A complete reading after a failure.
    Recovered,
    /// It fails now, or for another reason than before.
    Failed,
}

/// What follows from one reading.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) publish: Option<Arc<SecretStore>>,
    pub(super) word: Word,
    pub(super) news: News,
    /// The settings whose secret differs from what was served before.
    pub(super) changed: Vec<String>,
}

/// What has happened so far in this life of the actor.
#[derive(Debug)]
pub(super) struct Course {
    strict: bool,
    loaded_once: bool,
    served: Option<Arc<SecretStore>>,
    failing: Option<Reason>,
    failures_in_a_row: u32,
}

impl Course {
    pub(super) fn new(strict: bool) -> Self {
        Self {
            strict,
            loaded_once: false,
            served: None,
            failing: None,
            failures_in_a_row: 0,
        }
    }

    /// The secrets that dependents have now.
    pub(super) fn served(&self) -> Option<Arc<SecretStore>> {
        self.served.clone()
    }

    pub(super) fn judge(&mut self, loaded: Loaded) -> Verdict {
        let reason = loaded.failures.first().map(|failed| failed.error.reason());
        let news = match (reason, self.failing) {
            (None, Some(_)) => News::Recovered,
            (None, None) if !self.loaded_once => News::Loaded,
            (Some(now), before) if before != Some(now) => News::Failed,
            _ => News::None,
        };
        self.failing = reason;
        self.failures_in_a_row = if reason.is_some() {
            self.failures_in_a_row.saturating_add(1)
        } else {
            0
        };
        self.loaded_once |= reason.is_none();

        if let Some(reason) = reason
            && self.strict
            && !self.loaded_once
        {
            return Verdict {
                publish: None,
                word: Word::Unavailable(reason),
                news,
                changed: Vec::new(),
            };
        }
        let store = Arc::new(loaded.store);
        let changed = self
            .served
            .as_ref()
            .map(|served| served.changed_keys(&store))
            .unwrap_or_default();
        let version = store.fingerprint();
        let word = match reason {
            None => Word::Ready(Serving::from("vault").version(version)),
            Some(reason) => {
                let source = if store.is_from_vault() {
                    "vault"
                } else {
                    "environment"
                };
                Word::Degraded(reason, Serving::from(source).version(version))
            }
        };
        self.served = Some(Arc::clone(&store));
        Verdict {
            publish: Some(store),
            word,
            news,
            changed,
        }
    }

    /// How long to wait before the next reading.
    ///
    /// After a success the refresh interval, a tenth more or less, so that replicas that started
    /// together do not ask together for ever. After the n-th failure in a row `retry_min` doubled
    /// n - 1 times up to `retry_max`, of which the second half is drawn at random.
    pub(super) fn next_in(
        &self,
        refresh: Duration,
        retry_min: Duration,
        retry_max: Duration,
        draw: f64,
    ) -> Duration {
        match self.failures_in_a_row.checked_sub(1) {
            None => refresh.mul_f64(0.9 + 0.2 * draw),
            Some(doublings) => {
                let longest = retry_min
                    .saturating_mul(2_u32.saturating_pow(doublings))
                    .min(retry_max);
                longest.mul_f64(0.5 + 0.5 * draw)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{SecretsError, VaultFailure, loader::Failed, reason};

    fn complete(value: &str) -> Loaded {
        let mut store = SecretStore::default();
        store.insert_from_vault("A", value.into());
        Loaded {
            store,
            failures: Vec::new(),
            unpermitted: Vec::new(),
        }
    }

    fn failed(source: VaultFailure, former: Option<&SecretStore>) -> Loaded {
        let mut store = SecretStore::default();
        store.keep("A", former);
        let failed = Failed {
            key: Some("A".to_owned()),
            error: SecretsError::Login { source },
        };
        Loaded {
            store,
            failures: vec![failed],
            unpermitted: Vec::new(),
        }
    }

    #[test]
    fn strict_publishes_nothing_before_the_first_complete_reading() {
        let mut course = Course::new(true);
        let verdict = course.judge(failed(VaultFailure::Sealed, None));
        assert_eq!(
            (verdict.word, verdict.news),
            (Word::Unavailable(reason::SEALED), News::Failed)
        );
        assert!(verdict.publish.is_none());
        let verdict = course.judge(complete("1"));
        assert!(matches!(
            verdict.word,
            Word::Ready(Serving {
                source: Some("vault"),
                ..
            })
        ));
        assert_eq!(verdict.news, News::Recovered);
        assert!(verdict.publish.is_some());
    }

    #[test]
    fn otherwise_it_goes_on_with_what_is_configured() {
        let mut course = Course::new(false);
        let verdict = course.judge(failed(VaultFailure::Sealed, None));
        assert!(matches!(
            verdict.word,
            Word::Degraded(
                reason::SEALED,
                Serving {
                    source: Some("environment"),
                    ..
                }
            )
        ));
        assert!(verdict.publish.is_some());
    }

    #[test]
    fn an_outage_after_loading_keeps_values_and_version() {
        for strict in [true, false] {
            let mut course = Course::new(strict);
            let before = complete("1").store.fingerprint();
            let serving = Serving::from("vault").version(before);
            assert_eq!(course.judge(complete("1")).word, Word::Ready(serving));
            let served = course.served();
            let verdict = course.judge(failed(VaultFailure::Standby, served.as_deref()));
            assert_eq!(verdict.word, Word::Degraded(reason::STANDBY, serving));
            let verdict = course.judge(complete("1"));
            assert_eq!(
                (verdict.word, verdict.news),
                (Word::Ready(serving), News::Recovered)
            );
            assert!(verdict.changed.is_empty());
        }
    }

    #[test]
    fn a_changed_secret_changes_the_version_and_is_named() {
        let mut course = Course::new(true);
        let before = course.judge(complete("1"));
        assert_eq!(before.news, News::Loaded);
        let after = course.judge(complete("2"));
        assert_eq!(
            (after.changed, after.news),
            (vec!["A".to_owned()], News::None)
        );
        assert_ne!(before.word, after.word);
    }

    #[test]
    fn a_failure_is_news_only_when_its_reason_changes() {
        let mut course = Course::new(true);
        let mut news = |failure| course.judge(failed(failure, None)).news;
        assert_eq!(news(VaultFailure::Sealed), News::Failed);
        assert_eq!(news(VaultFailure::Sealed), News::None);
        assert_eq!(news(VaultFailure::Standby), News::Failed);
    }

    #[test]
    fn waits_grow_to_the_longest_and_never_vanish() {
        let (refresh, min, max) = (
            Duration::from_secs(60),
            Duration::from_millis(100),
            Duration::from_secs(10),
        );
        let mut course = Course::new(true);
        assert_eq!(course.next_in(refresh, min, max, 0.5), refresh);
        let mut longest = Duration::ZERO;
        for _ in 0..100 {
            course.judge(failed(VaultFailure::Sealed, None));
            let (low, high) = (
                course.next_in(refresh, min, max, 0.0),
                course.next_in(refresh, min, max, 1.0),
            );
            assert!(
                low >= min / 2 && high >= longest && high <= max,
                "{low:?} {high:?}"
            );
            longest = high;
        }
        assert_eq!(longest, max);
    }
}
