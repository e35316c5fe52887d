//! An authenticator app (RFC 6238): SHA-1, 6 digits, 30 s.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;

const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The code of an app with that secret, so many steps from now.
pub fn code(secret: &str, steps: i64) -> String {
    let mut key = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for digit in secret.bytes() {
        let value = DIGITS.iter().position(|it| *it == digit).unwrap();
        bits = bits << 5 | u32::try_from(value).unwrap();
        count += 5;
        if count >= 8 {
            count -= 8;
            key.push((bits >> count & 0xff) as u8);
        }
    }
    let step = (now() / 30).checked_add_signed(steps).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag[19] & 0xf);
    let word: [u8; 4] = tag[offset..offset + 4].try_into().unwrap();
    let number = u32::from_be_bytes(word) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// Not so close to the end of a step that the next request may fall into another one.
pub async fn within_a_step() {
    while 30 - now() % 30 <= 8 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// The first example of RFC 4226 is that of the step 0, so of the first 30 s of 1970.
#[test]
fn codes_are_those_of_the_standard() {
    let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    let step = i64::try_from(now() / 30).unwrap();
    assert_eq!(code(secret, -step), "755224");
    assert_eq!(code(secret, 1 - step), "287082");
}
