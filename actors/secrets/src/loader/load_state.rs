//! The actor's decisions after each read: pure rules, so that they can be read and tested alone.
//!
//! | after a reading that … | strict and never loaded | otherwise |
//! |---|---|---|
//! | brought everything | publish, `ready` | publish, `ready` |
//! | failed, in part or whole | `unavailable`, publish nothing | publish what there is, `degraded` |
//!
//! A failing database engine delays no other component: the database is away and reports that itself.
//!
//! Unchanged secrets are not published again.

use std::sync::Arc;

use super::Loaded;
use crate::SecretStore;
use dotmac_supervision::Reason;

/// The state for the supervisor, with the source of the secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportedState {
    Ready(&'static str),
    Degraded(Reason, &'static str),
    Unavailable(Reason),
}

/// Log lines to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogEntry {
    /// As it was before.
    None,
    /// The first complete reading.
    Loaded,
    /// A complete reading after a failure.
    Recovered,
    /// It fails now, or for another reason than before.
    Failed,
}

/// The consequences of one read.
#[derive(Debug)]
pub(crate) struct Consequences {
    pub(crate) publish: Option<Arc<SecretStore>>,
    pub(crate) word: ReportedState,
    pub(crate) news: LogEntry,
}

/// The history of this life of the actor.
#[derive(Debug)]
pub(crate) struct LoadState {
    strict: bool,
    loaded_once: bool,
    served: Option<Arc<SecretStore>>,
    failing: Option<Reason>,
}

impl LoadState {
    pub(crate) fn new(strict: bool) -> Self {
        Self {
            strict,
            loaded_once: false,
            served: None,
            failing: None,
        }
    }

    /// The secrets that dependents have now.
    pub(crate) fn served(&self) -> Option<Arc<SecretStore>> {
        self.served.clone()
    }

    pub(crate) fn judge(&mut self, loaded: Loaded) -> Consequences {
        let reason = loaded.failures.first().map(|failed| failed.error.reason());
        let news = match (reason, self.failing) {
            (None, Some(_)) => LogEntry::Recovered,
            (None, None) if !self.loaded_once => LogEntry::Loaded,
            (Some(now), before) if before != Some(now) => LogEntry::Failed,
            _ => LogEntry::None,
        };
        self.failing = reason;
        let mut failures = loaded.failures.iter();
        self.loaded_once |= failures.all(|failed| failed.error.is_of_database_engine());

        if let Some(reason) = reason
            && self.strict
            && !self.loaded_once
        {
            return Consequences {
                publish: None,
                word: ReportedState::Unavailable(reason),
                news,
            };
        }
        let (store, is_new) = match self.served.take() {
            Some(served) if served.is(&loaded.store) => (served, false),
            _ => (Arc::new(loaded.store), true),
        };
        let source = if store.is_from_vault() || reason.is_none() {
            "vault"
        } else {
            "environment"
        };
        let word = match reason {
            None => ReportedState::Ready(source),
            Some(reason) => ReportedState::Degraded(reason, source),
        };
        self.served = Some(Arc::clone(&store));
        Consequences {
            publish: is_new.then_some(store),
            word,
            news,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::Failed;
    use crate::{SecretsError, VaultFailure, reason};

    fn complete(value: &str) -> Loaded {
        let mut store = SecretStore::default();
        store.insert_from_vault("A", value.into(), None);
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
        let mut load_state = LoadState::new(true);
        let verdict = load_state.judge(failed(VaultFailure::Sealed, None));
        assert_eq!(
            (verdict.word, verdict.news),
            (ReportedState::Unavailable(reason::SEALED), LogEntry::Failed)
        );
        assert!(verdict.publish.is_none());
        let verdict = load_state.judge(complete("1"));
        assert_eq!(verdict.word, ReportedState::Ready("vault"));
        assert_eq!(verdict.news, LogEntry::Recovered);
        assert!(verdict.publish.is_some());
    }

    #[test]
    fn a_database_that_is_away_delays_no_consumer_of_secrets() {
        let engine = || VaultFailure::DatabaseEngine {
            mount: "database".to_owned(),
            role: "dotmac".to_owned(),
            detail: "connection refused".to_owned(),
        };
        let mut load_state = LoadState::new(true);
        let verdict = load_state.judge(failed(engine(), None));
        let word = ReportedState::Degraded(reason::DATABASE_ENGINE_FAILED, "environment");
        assert_eq!((verdict.word, verdict.news), (word, LogEntry::Failed));
        assert!(verdict.publish.is_some());
        let mut load_state = LoadState::new(true);
        let mut both = failed(engine(), None);
        both.failures
            .extend(failed(VaultFailure::Sealed, None).failures);
        assert!(matches!(
            load_state.judge(both).word,
            ReportedState::Unavailable(_)
        ));
    }

    #[test]
    fn otherwise_it_goes_on_with_what_is_configured() {
        let mut load_state = LoadState::new(false);
        let verdict = load_state.judge(failed(VaultFailure::Sealed, None));
        assert_eq!(
            verdict.word,
            ReportedState::Degraded(reason::SEALED, "environment")
        );
        assert!(verdict.publish.is_some());
    }

    #[test]
    fn an_outage_after_loading_keeps_the_values() {
        for strict in [true, false] {
            let mut load_state = LoadState::new(strict);
            let verdict = load_state.judge(complete("1"));
            assert_eq!(
                (verdict.word, verdict.news),
                (ReportedState::Ready("vault"), LogEntry::Loaded)
            );
            let served = load_state.served();
            let verdict = load_state.judge(failed(VaultFailure::Standby, served.as_deref()));
            assert_eq!(
                verdict.word,
                ReportedState::Degraded(reason::STANDBY, "vault")
            );
            assert!(verdict.publish.is_none(), "it is published already");
            assert!(
                load_state
                    .served()
                    .is_some_and(|store| store.get("A").is_some())
            );
            let verdict = load_state.judge(complete("1"));
            assert_eq!(
                (verdict.word, verdict.news),
                (ReportedState::Ready("vault"), LogEntry::Recovered)
            );
        }
    }

    #[test]
    fn a_failure_is_news_only_when_its_reason_changes() {
        let mut load_state = LoadState::new(true);
        let mut news = |failure| load_state.judge(failed(failure, None)).news;
        assert_eq!(news(VaultFailure::Sealed), LogEntry::Failed);
        assert_eq!(news(VaultFailure::Sealed), LogEntry::None);
        assert_eq!(news(VaultFailure::Standby), LogEntry::Failed);
    }
}
