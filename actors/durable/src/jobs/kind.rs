//! What a job is: a type with its arguments, a name for its kind, and rules.

use std::time::Duration;

use dotmac_db::types::Id;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::retry::Backoff;

/// The most that the arguments of one job may have, in bytes of JSON.
pub const MAX_ARGS: usize = 64 * 1024;
/// The most that its result may have.
pub const MAX_RESULT: usize = 16 * 1024;
/// The longest name of a kind or a queue.
const MAX_NAME: usize = 64;
/// The queue of jobs that name no other.
pub const DEFAULT_QUEUE: &str = "default";

/// The id of a job: a UUID of version 7.
pub type JobId = Id<super::StoredJob>;

/// Something to be done. Its fields, as JSON, are its arguments.
///
/// ```
/// use dotmac_durable::jobs::{Job, Rules};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Reindex {
///     folder: u64,
/// }
///
/// impl Job for Reindex {
///     const KIND: &'static str = "notes.reindex";
///     type Output = u64;
///     const RULES: Rules = Rules { slots: 2, ..Rules::DEFAULT };
/// }
/// ```
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its kind: `area.action`, lower case, at least two parts. A name that is none does not compile where the job is
    /// enqueued. Jobs outlive programs: a kind whose arguments change in a way that old ones do not fit needs another name.
    const KIND: &'static str;

    /// What it results in, as JSON at most 16 KiB; `()` for nothing.
    type Output: Serialize + Send + 'static;

    /// How jobs of this kind are treated.
    const RULES: Rules = Rules::DEFAULT;
}

/// How jobs of one kind are treated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// The queue of jobs that are enqueued without naming one. `default`.
    pub queue: &'static str,
    /// Attempts in all, from 1 to 100. 25.
    pub max_attempts: u32,
    /// The wait after a failed attempt.
    pub backoff: Backoff,
    /// Without progress for this long a job counts as hung: it is taken from its worker, and tried again. 30 s.
    pub hang_after: Duration,
    /// Jobs of the kind that an instance runs at a time, in each queue. 8.
    pub slots: u32,
    /// Jobs of the kind that all instances together run at a time.
    pub total: Option<u32>,
    /// Starts of jobs of the kind over all instances.
    pub rate: Option<Rate>,
    /// Whether callers over HTTP may enqueue such jobs.
    pub is_public: bool,
    /// The arguments that may be shown. All others read `[redacted]` where jobs are shown.
    pub shown: &'static [&'static str],
}

impl Rules {
    /// What the fields say.
    pub const DEFAULT: Self = Self {
        queue: DEFAULT_QUEUE,
        max_attempts: 25,
        backoff: Backoff::DEFAULT,
        hang_after: Duration::from_secs(30),
        slots: 8,
        total: None,
        rate: None,
        is_public: false,
        shown: &[],
    };

    /// Whether all are within their ranges.
    pub(super) const fn are_sound(&self) -> bool {
        let attempts = 1 <= self.max_attempts && self.max_attempts <= MAX_ATTEMPTS;
        let slots = 1 <= self.slots && self.slots <= MAX_SLOTS;
        let total = match self.total {
            Some(total) => total >= 1,
            None => true,
        };
        let rate = match self.rate {
            Some(rate) => rate.jobs >= 1 && !rate.per.is_zero(),
            None => true,
        };
        is_queue_name(self.queue)
            && attempts
            && slots
            && total
            && rate
            && !self.hang_after.is_zero()
    }
}

/// The most attempts of a job.
pub const MAX_ATTEMPTS: u32 = 100;
/// The most slots of a kind on an instance.
pub const MAX_SLOTS: u32 = 1024;

/// So many starts in such a time, evenly spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub jobs: u32,
    /// In what time.
    pub per: Duration,
}

/// A kind of jobs, without its type.
#[derive(Clone, Copy, Debug)]
pub struct KindSpec {
    /// Its name.
    pub kind: &'static str,
    /// How its jobs are treated.
    pub rules: Rules,
    pub(super) check: fn(&Value) -> Result<(), serde_json::Error>,
}

impl KindSpec {
    /// That of `J`.
    #[must_use]
    pub const fn of<J: Job>() -> Self {
        const {
            assert!(
                is_job_kind(J::KIND),
                "the KIND of a job has the form `area.action`"
            );
            assert!(
                J::RULES.are_sound(),
                "the RULES of a job are out of their ranges"
            );
        }
        Self {
            kind: J::KIND,
            rules: J::RULES,
            check: |args| J::deserialize(args).map(drop),
        }
    }

    /// Whether `args` are arguments of the kind.
    ///
    /// # Errors
    ///
    /// What does not fit.
    pub fn check(&self, args: &Value) -> Result<(), serde_json::Error> {
        (self.check)(args)
    }

    /// `args` as they may be shown: what [`Rules::shown`] does not name is `[redacted]`.
    #[must_use]
    pub fn redact(&self, args: Value) -> Value {
        redact(self.rules.shown, args)
    }
}

/// `args` with `[redacted]` for each field that is not `shown`.
#[must_use]
pub fn redact(shown: &[&str], args: Value) -> Value {
    let hidden = || Value::from("[redacted]");
    match args {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| {
                let value = if shown.contains(&&*name) {
                    value
                } else {
                    hidden()
                };
                (name, value)
            });
            Value::Object(fields.collect())
        }
        Value::Null => Value::Null,
        _ => hidden(),
    }
}

/// Whether `name` can be a kind of jobs: `area.action`. Two to six parts of lower case letters, digits and `_`, a letter
/// first.
#[must_use]
pub const fn is_job_kind(name: &str) -> bool {
    let parts = parts(name.as_bytes());
    2 <= parts && parts <= 6
}

/// Whether `name` can be that of a queue: as a kind, and one part is enough.
#[must_use]
pub const fn is_queue_name(name: &str) -> bool {
    let parts = parts(name.as_bytes());
    1 <= parts && parts <= 6
}

/// How many parts with dots between them there are; 0 if one of them is none.
const fn parts(bytes: &[u8]) -> usize {
    if bytes.len() > MAX_NAME {
        return 0;
    }
    let (mut parts, mut at, mut is_first) = (0, 0, true);
    while at < bytes.len() {
        let byte = bytes[at];
        if is_first {
            if !byte.is_ascii_lowercase() {
                return 0;
            }
            parts += 1;
            is_first = false;
        } else if byte == b'.' {
            is_first = true;
        } else if !(byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
            return 0;
        }
        at += 1;
    }
    if is_first { 0 } else { parts }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_have_an_area_and_an_action() {
        for name in ["notes.reindex", "a.b", "files.image.render_2"] {
            assert!(is_job_kind(name), "{name}");
        }
        let long = format!("a.{}", "b".repeat(MAX_NAME));
        for name in [
            "",
            ".",
            "notes",
            "notes.",
            ".notes",
            "Notes.add",
            "a..b",
            "a.1",
            "a.b-c",
            &long,
        ] {
            assert!(!is_job_kind(name), "{name}");
        }
        assert!(is_queue_name("default") && is_queue_name("files.render"));
        assert!(!is_queue_name("") && !is_queue_name("a b"));
    }

    #[test]
    fn rules_are_bounded() {
        assert!(Rules::DEFAULT.are_sound());
        for wrong in [
            Rules {
                max_attempts: 0,
                ..Rules::DEFAULT
            },
            Rules {
                max_attempts: 101,
                ..Rules::DEFAULT
            },
            Rules {
                slots: 0,
                ..Rules::DEFAULT
            },
            Rules {
                total: Some(0),
                ..Rules::DEFAULT
            },
            Rules {
                queue: "A",
                ..Rules::DEFAULT
            },
            Rules {
                hang_after: Duration::ZERO,
                ..Rules::DEFAULT
            },
        ] {
            assert!(!wrong.are_sound(), "{wrong:?}");
        }
    }

    #[test]
    fn arguments_are_shown_by_name_only() {
        let args = json!({"text": "hello", "password": "hunter2"});
        let shown = json!({"text": "hello", "password": "[redacted]"});
        assert_eq!(redact(&["text"], args), shown);
        assert_eq!(redact(&["text"], json!(["hunter2"])), json!("[redacted]"));
    }
}
