//! Sizes with a unit.

use crate::settings::{Invalid, Setting};

const UNITS: [(&str, u64); 7] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Setting for ByteSize {
    const EXAMPLE: &'static str = "2MiB";

    fn expected() -> String {
        "a size with its unit".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| Invalid::plain())?;
        if unit.is_empty() {
            return Err(Invalid::because("the unit is missing").instead(format!(
                "write {number}B for bytes, {number}MiB for mebibytes"
            )));
        }
        let unit = unit.trim_start().to_ascii_lowercase();
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(Invalid::because(
                "units are B, KB, MB, GB, KiB, MiB and GiB",
            ));
        };
        number
            .checked_mul(*factor)
            .map(Self)
            .ok_or_else(|| Invalid::because("it is too large"))
    }
}
