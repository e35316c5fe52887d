//! Secrets that are none.

/// Shorter than this can be guessed.
const LEAST_CHARS: usize = 8;

/// Default passwords of documentation and images, in lower case. `root` and the like are too short anyway.
const WELL_KNOWN: [&str; 14] = [
    "12345678",
    "123456789",
    "1234567890",
    "changeit",
    "changeme",
    "change-me",
    "change_me",
    "dev-only",
    "dev-only-token",
    "dotmac-platform",
    "example-password",
    "password",
    "postgres",
    "postgresql",
];

/// Why `secret` is not fit for production, without saying what it is; `None` if it is.
pub(super) fn weakness(secret: &str) -> Option<&'static str> {
    if secret.chars().count() < LEAST_CHARS {
        return Some("shorter than 8 characters");
    }
    let lower = secret.to_lowercase();
    let first = lower.chars().next();
    let is_one_character = lower.chars().all(|it| Some(it) == first);
    (is_one_character || WELL_KNOWN.contains(&lower.as_str())).then_some("a well-known default")
}
