//! Envelopes and keys, without a database.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::*;
use crate::types::Id;

struct Row;

const SECRET: SealedColumn = SealedColumn::new("endpoint", "secret");
const PLANTED: &str = "planted-secret";

/// The key whose bytes count up from `first`, as an operator writes it.
fn key(first: u8) -> String {
    let bytes: Vec<u8> = (0..32).map(|n| first.wrapping_add(n)).collect();
    STANDARD.encode(bytes)
}

fn sealer(keys: &[u8]) -> Sealer {
    let keyring = Keyring::new("TEST_KEY");
    let keys: Vec<_> = keys.iter().map(|first| key(*first)).collect();
    keyring.set(&keys.join(",").into()).unwrap();
    Sealer::new(keyring)
}

#[test]
fn what_was_sealed_opens_at_its_place_and_nowhere_else() {
    let (sealer, id) = (sealer(&[1]), Id::<Row>::new());
    let sealed = sealer.seal(SECRET.of(id), PLANTED).unwrap();
    let opened: SecretString = sealer.open(SECRET.of(id), &sealed).unwrap();
    assert_eq!(opened.expose_secret(), PLANTED);

    for (place, table, column) in [
        (SECRET.of(Id::<Row>::new()), "endpoint", "secret"),
        (
            SealedColumn::new("endpoint", "token").of(id),
            "endpoint",
            "token",
        ),
        (
            SealedColumn::new("channel", "secret").of(id),
            "channel",
            "secret",
        ),
        // The same letters, divided in another way.
        (
            SealedColumn::new("endpoints", "ecret").of(id),
            "endpoints",
            "ecret",
        ),
    ] {
        let error = sealer.open(place, &sealed).unwrap_err();
        assert_eq!(error, SealingError::Damaged { table, column });
    }
}

#[test]
fn two_values_that_are_the_same_do_not_look_so() {
    let (sealer, place) = (sealer(&[1]), SECRET.of(Id::<Row>::new()));
    let bytes = || sealer.seal_bytes(place, PLANTED.as_bytes()).unwrap();
    let (one, other) = (bytes(), bytes());
    assert_eq!(one[..9], other[..9], "version and key");
    assert_ne!(one[9..21], other[9..21], "the nonce");
    assert_ne!(one[21..], other[21..]);
    assert_eq!(one.len(), 1 + 8 + 12 + PLANTED.len() + 16);
}

#[test]
fn the_first_key_seals_and_all_open() {
    let place = SECRET.of(Id::<Row>::new());
    let (old, both, new) = (sealer(&[1]), sealer(&[2, 1]), sealer(&[2]));
    let [new_id, old_id] = both.keyring().ids()[..] else {
        unreachable!("there are two")
    };
    let by_old = old.seal(place, PLANTED).unwrap();
    let by_both = both.seal(place, PLANTED).unwrap();
    assert_eq!(by_old.key_id(), Some(old_id));
    assert_eq!(by_both.key_id(), Some(new_id));
    assert!(both.open(place, &by_old).is_ok() && new.open(place, &by_both).is_ok());

    let error = new.open(place, &by_old).unwrap_err();
    assert!(matches!(error, SealingError::MissingKey { key, .. } if key == old_id));
    let text = error.to_string();
    assert!(
        text.contains(&old_id.to_string()) && text.contains("TEST_KEY"),
        "{text}"
    );
    assert_eq!(old_id.to_string().parse(), Ok(old_id));
}

#[test]
fn keys_are_followed_while_the_process_runs() {
    let keyring = Keyring::new("TEST_KEY");
    let sealer = Sealer::new(keyring.clone());
    let place = SECRET.of(Id::<Row>::new());
    let error = sealer.seal(place, PLANTED).unwrap_err();
    assert_eq!(error, SealingError::NoKey { origin: "TEST_KEY" });
    assert!(error.to_string().contains("TEST_KEY"));

    keyring.set(&key(1).into()).unwrap();
    let sealed = sealer.seal(place, PLANTED).unwrap();
    assert_eq!(keyring.set(&"no key".into()), Err(KeysError::NotAKey(1)));
    assert!(sealer.open(place, &sealed).is_ok(), "the former keys stay");
    keyring.set(&key(2).into()).unwrap();
    assert!(sealer.open(place, &sealed).is_err());
}

#[test]
fn a_list_of_keys_is_32_random_bytes_in_base64_each() {
    let check = |text: String| Keyring::check(&SecretString::from(text));
    let (one, two) = (key(1), key(2));
    for right in [
        one.clone(),
        format!("{one},{two}"),
        format!("{one}\n{two}\n"),
        format!(" {one} , {two} "),
        one.trim_end_matches('=').to_owned(),
        STANDARD.encode([0xff, 1].repeat(16)).replace('/', "_"),
    ] {
        assert_eq!(check(right.clone()), Ok(()), "{right}");
    }
    for (wrong, error) in [
        (String::new(), KeysError::Empty),
        (" , \n".to_owned(), KeysError::Empty),
        ("sekret".to_owned(), KeysError::NotAKey(1)),
        (format!("{one},sekret"), KeysError::NotAKey(2)),
        (STANDARD.encode([1, 2].repeat(8)), KeysError::NotAKey(1)),
        (STANDARD.encode([1, 2].repeat(17)), KeysError::NotAKey(1)),
        (STANDARD.encode([0; 32]), KeysError::NotRandom(1)),
        (format!("{one},{two},{one}"), KeysError::Twice(3)),
        (
            (1..18).map(key).collect::<Vec<_>>().join(","),
            KeysError::TooMany,
        ),
    ] {
        assert_eq!(check(wrong.clone()), Err(error), "{wrong}");
        assert!(!error.to_string().contains("sekret"));
    }
}

#[test]
fn text_bytes_and_what_serde_knows_are_sealed() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Login {
        user: String,
        password: String,
    }
    impl Zeroize for Login {
        fn zeroize(&mut self) {
            self.user.zeroize();
            self.password.zeroize();
        }
    }
    let (sealer, place) = (sealer(&[1]), SECRET.of(Id::<Row>::new()));
    let login = Login {
        user: "ada".to_owned(),
        password: PLANTED.to_owned(),
    };
    let sealed = sealer.seal(place, &login).unwrap();
    let opened = sealer.open(place, &sealed).unwrap();
    assert_eq!(*opened.expose_secret(), login);
    assert!(!format!("{opened:?}").contains(PLANTED));

    let bytes: &[u8] = &[0, 255, 1];
    let sealed = sealer.seal(place, bytes).unwrap();
    assert_eq!(sealer.open(place, &sealed).unwrap().expose_secret(), bytes);
    let empty = sealer.seal(place, "").unwrap();
    assert_eq!(sealer.open(place, &empty).unwrap().expose_secret(), "");
}

#[test]
fn nothing_shows_a_value_or_a_key() {
    let (sealer, place) = (sealer(&[1]), SECRET.of(Id::<Row>::new()));
    let sealed: Sealed<str> = sealer.seal(place, PLANTED).unwrap();
    let opened = sealer.open(place, &sealed).unwrap();
    let shown = format!("{sealer:?} {sealed:?} {opened:?} {place:?}");
    assert!(
        !shown.contains(PLANTED) && !shown.contains(&key(1)),
        "{shown}"
    );
    let id = sealer.keyring().ids()[0];
    assert!(shown.contains(&format!("Sealed(key {id})")), "{shown}");
    let envelope = sealer.seal_bytes(place, PLANTED.as_bytes()).unwrap();
    let is_there = |text: &[u8]| envelope.windows(text.len()).any(|part| part == text);
    assert!(!is_there(PLANTED.as_bytes()) && !is_there(&[1, 2, 3, 4]));
}

proptest! {
    #[test]
    fn no_byte_of_an_envelope_can_be_changed(at in 0usize..51, by in 1u8..) {
        let (sealer, place) = (sealer(&[1]), SECRET.of(Id::<Row>::new()));
        let mut envelope = sealer.seal_bytes(place, PLANTED.as_bytes()).unwrap();
        let at = at % envelope.len();
        envelope[at] ^= by;
        prop_assert!(sealer.open_bytes(place, &envelope).is_err());
    }

    #[test]
    fn no_bytes_but_ours_open(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let (sealer, place) = (sealer(&[1]), SECRET.of(Id::<Row>::new()));
        prop_assert!(sealer.open_bytes(place, &bytes).is_err());
        let mut headed = envelope::head(sealer.keyring().ids()[0]).to_vec();
        headed.extend(bytes);
        prop_assert!(sealer.open_bytes(place, &headed).is_err());
    }

    #[test]
    fn any_text_comes_back(text in any::<String>()) {
        let (sealer, place) = (sealer(&[1]), SECRET.of(Id::<Row>::new()));
        let sealed = sealer.seal(place, text.as_str()).unwrap();
        let opened = sealer.open(place, &sealed).unwrap();
        prop_assert_eq!(opened.expose_secret(), &text);
    }
}
