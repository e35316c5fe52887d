//! The requirements on a durable stream.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

/// For so long at least a stream must recognise events: longer than one can be under way twice.
const KNOWN_FOR: Duration = Duration::from_secs(120);

/// The faults of a stream, for operators; `None` if there are none.
pub(crate) fn shortcomings(config: &Config, replicas: usize) -> Option<String> {
    let mut found = Vec::new();
    if config.storage != StorageType::File {
        found.push("it keeps its messages in memory".to_owned());
    }
    if config.num_replicas < replicas {
        let has = config.num_replicas;
        found.push(format!("it has {has} replicas, and {replicas} are wanted"));
    }
    if config.no_ack {
        found.push("it does not acknowledge".to_owned());
    }
    if config.duplicate_window < KNOWN_FOR {
        found.push(format!(
            "it recognises a repeated message for {:?}, and {KNOWN_FOR:?} are needed",
            config.duplicate_window
        ));
    }
    if config.retention != RetentionPolicy::Limits {
        found.push("it drops consumed messages".to_owned());
    }
    let is_bounded = config.max_messages > 0 || config.max_bytes > 0;
    if is_bounded && config.discard == DiscardPolicy::Old {
        found
            .push("it drops old messages when it is full, instead of refusing new ones".to_owned());
    }
    (!found.is_empty()).then(|| found.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_durable_if_it_lacks_nothing() {
        let whole = Config {
            storage: StorageType::File,
            num_replicas: 3,
            duplicate_window: KNOWN_FOR,
            ..Config::default()
        };
        assert_eq!(shortcomings(&whole, 3), None);
        let lacks = |change: fn(&mut Config), replicas: usize, expected: &str| {
            let mut config = whole.clone();
            change(&mut config);
            let found = shortcomings(&config, replicas).unwrap_or_default();
            assert!(found.contains(expected), "{found:?}, not {expected:?}");
        };
        lacks(|it| it.storage = StorageType::Memory, 3, "in memory");
        lacks(|_| (), 5, "it has 3 replicas, and 5 are wanted");
        lacks(|it| it.no_ack = true, 3, "does not acknowledge");
        let short = |it: &mut Config| it.duplicate_window = Duration::from_secs(1);
        lacks(short, 3, "recognises a repeated message for 1s");
        let work = |it: &mut Config| it.retention = RetentionPolicy::WorkQueue;
        lacks(work, 3, "drops consumed messages");
        lacks(|it| it.max_bytes = 1000, 3, "drops old messages");
        lacks(|it| it.max_messages = 1000, 3, "drops old messages");
    }
}
