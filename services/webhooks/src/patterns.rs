//! Patterns of events: `file.created.v1`, `file.*`, `*`.

/// The most patterns of an endpoint.
pub(crate) const MOST_PATTERNS: usize = 50;

/// The longest pattern, in bytes.
pub(crate) const LONGEST_PATTERN: usize = 130;

/// Whether `pattern` is one: `*`, a type of events, or the begin of one up to a dot, with `*` behind it.
pub(crate) fn is_pattern(pattern: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let begin = pattern.strip_suffix(".*").unwrap_or(pattern);
    !begin.is_empty()
        && pattern.len() <= LONGEST_PATTERN
        && begin.split('.').all(|part| {
            part.starts_with(|first: char| first.is_ascii_lowercase())
                && part
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        })
}

/// Whether events of the type `kind` are among those that `pattern` names.
pub(crate) fn matches(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => kind.starts_with(begin),
        None => kind == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_type_or_its_begin() {
        let long = format!("{}.*", "a".repeat(LONGEST_PATTERN));
        for pattern in [
            "*",
            "file.*",
            "file.created.v1",
            "custom.order_2.*",
            "a.b.c.*",
        ] {
            assert!(is_pattern(pattern), "{pattern}");
        }
        for pattern in [
            "",
            "**",
            ".*",
            "file*",
            "file.",
            "*.created.v1",
            "file.*.v1",
            "File.*",
            "file..*",
            "fi le.*",
            &long,
        ] {
            assert!(!is_pattern(pattern), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_names_whole_parts() {
        for (pattern, kind, matched) in [
            ("*", "file.created.v1", true),
            ("file.*", "file.created.v1", true),
            ("file.*", "files.created.v1", false),
            ("file.created.*", "file.created.v2", true),
            ("file.created.v1", "file.created.v1", true),
            ("file.created.v1", "file.created.v11", false),
            ("file.*", "custom.file.v1", false),
        ] {
            assert_eq!(matches(pattern, kind), matched, "{pattern} {kind}");
        }
    }
}
