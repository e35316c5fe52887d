//! The ranges of bytes that a request asks for (RFC 9110, section 14).

use std::ops::Range;

/// One of the ranges of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    From(u64, u64),
    Last(u64),
}

impl Wanted {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.trim().split_once('-')?;
        match (first, last) {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?, u64::MAX)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, last))
            }
        }
    }

    /// The bytes that it means of so many; `None` if there are none.
    pub(super) fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => first..last.saturating_add(1).min(size),
            Self::Last(most) => size.saturating_sub(most)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

/// A number too large to be held is larger than any content.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The ranges of a header; `None` for what is not understood, which is to be ignored (RFC 9110, 14.2).
pub(super) fn ranges_of(text: &str) -> Option<Vec<Wanted>> {
    let (unit, ranges) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let ranges = ranges.split(',').map(str::trim).filter(|it| !it.is_empty());
    let ranges: Vec<_> = ranges.map(Wanted::parse).collect::<Option<_>>()?;
    (!ranges.is_empty()).then_some(ranges)
}
