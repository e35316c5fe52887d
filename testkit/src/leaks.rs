//! Looks for secrets in what a program has emitted, in any encoding.

use std::iter;

/// Something that was emitted, as it is and in each form that is searched.
pub struct Emitted {
    /// Where it came from, for the report of a leak.
    pub source: String,
    text: String,
    /// Percent-encoding undone; spaces may have been written as `+`.
    decoded: [String; 2],
    /// Without white space, which wrapped and pretty-printed encodings have between their characters.
    dense: String,
    /// In lower case without anything that may stand between bytes in hexadecimal.
    digits: String,
}

impl Emitted {
    /// `text`, emitted by `source`: a log, an answer, a dump of memory.
    pub fn new(source: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let dense: String = text.split_whitespace().collect();
        let mut digits = dense.to_lowercase();
        for between in ["\\x", "0x", ":", ","] {
            digits = digits.replace(between, "");
        }
        Self {
            source: source.into(),
            decoded: [
                percent_decoded(&text),
                percent_decoded(&text.replace('+', " ")),
            ],
            text,
            dense,
            digits,
        }
    }

    /// Whether `text` is in it, spelled as it is.
    pub fn contains(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// The spelling in which `secret` is in it, if it is.
    pub fn betrays(&self, secret: &str) -> Option<&'static str> {
        let is_in = |text: &str, spellings: &[String]| spellings.iter().any(|it| text.contains(it));
        let bytes = secret.as_bytes();
        let decimal: Vec<_> = bytes.iter().map(u8::to_string).collect();
        let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let found = [
            ("plain", self.contains(secret)),
            ("escaped", is_in(&self.text, &escaped(secret))),
            (
                "percent-encoded",
                self.decoded.iter().any(|text| text.contains(secret)),
            ),
            ("base64", is_in(&self.dense, &in_base64(bytes))),
            ("hexadecimal", self.digits.contains(&hexadecimal)),
            ("list of bytes", self.dense.contains(&decimal.join(","))),
        ];
        found.into_iter().find_map(|(name, so)| so.then_some(name))
    }
}

/// Inside a string of JSON, of a string of JSON in one, of Rust's `Debug`, and of JSON in ASCII.
fn escaped(secret: &str) -> Vec<String> {
    let inside = |quoted: String| quoted[1..quoted.len() - 1].to_owned();
    let json = |text: &str| inside(serde_json::to_string(text).unwrap());
    let once = json(secret);
    let ascii = |c: char| match c.is_ascii() {
        true => c.to_string(),
        false => {
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units).iter();
            units.map(|unit| format!("\\u{unit:04x}")).collect()
        }
    };
    vec![
        json(&once),
        once.chars().map(ascii).collect(),
        once,
        inside(format!("{secret:?}")),
        secret.escape_default().to_string(),
    ]
}

fn percent_decoded(text: &str) -> String {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut bytes = text.bytes().collect::<Vec<_>>();
    let (mut read, mut write) = (0, 0);
    while read < bytes.len() {
        let high = digit(bytes.get(read + 1));
        let encoded = high.zip(digit(bytes.get(read + 2)));
        let encoded = encoded.filter(|_| bytes[read] == b'%');
        let byte = encoded.map(|(high, low)| (high * 16 + low) as u8);
        bytes[write] = byte.unwrap_or(bytes[read]);
        read += if encoded.is_some() { 3 } else { 1 };
        write += 1;
    }
    bytes.truncate(write);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The certain part of the base64 of data that contains `bytes`: it depends on how many bytes
/// come before, by threes, and its ends depend on what these are. In both alphabets.
fn in_base64(bytes: &[u8]) -> Vec<String> {
    let alphabet = |others: &'static str| -> Vec<char> {
        let letters = ('A'..='Z').chain('a'..='z').chain('0'..='9');
        letters.chain(others.chars()).collect()
    };
    let mut spellings = Vec::new();
    for alphabet in [alphabet("+/"), alphabet("-_")] {
        for before in 0..3 {
            let padded: Vec<u8> = iter::repeat_n(0, before).chain(bytes.to_vec()).collect();
            let bits = padded.len() * 8;
            let bit = |n: usize| usize::from(padded[n / 8] >> (7 - n % 8) & 1);
            let first = (before * 8).div_ceil(6);
            let characters = (first..bits / 6).map(|character| {
                let value = (0..6).fold(0, |value, n| value << 1 | bit(character * 6 + n));
                alphabet[value]
            });
            spellings.push(characters.collect());
        }
    }
    spellings
}
