//! One argon2id hash: made with today's parameters, checked with those that it was made with.

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Ident, PasswordHash},
};
use aws_lc_rs::constant_time;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use zeroize::Zeroizing;

use super::pepper::Pepper;
use crate::{AccountsError, secret_text::random};

/// Bytes of the salt and of the hash.
const SALT: usize = 16;
const OUTPUT: usize = 32;

/// A stored hash with more than this is not computed: a hostile row must not take the memory or the time of the daemon.
const MOST_MEMORY: u32 = 256 * 1024;
const MOST_PASSES: u32 = 10;
const MOST_LANES: u32 = 16;

/// Cost of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HashParams {
    /// KiB.
    pub(crate) m: u32,
    pub(crate) t: u32,
    pub(crate) p: u32,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) is_right: bool,
    /// Made with other parameters or another pepper than today's.
    pub(super) is_old: bool,
}

/// The working memory of one thread, used again by each hash.
pub(super) type Memory = Vec<Block>;

impl HashParams {
    fn argon2(self) -> Result<Params, AccountsError> {
        Params::new(self.m, self.t, self.p, Some(OUTPUT)).map_err(|_| AccountsError::HashNotUsable)
    }
}

/// The hash of `password` as a PHC string, with the first of `peppers` if there is one.
pub(super) fn hash(
    password: &str,
    cost: HashParams,
    peppers: &[Pepper],
    memory: &mut Memory,
) -> Result<String, AccountsError> {
    let (salt, pepper) = (random::<SALT>()?, peppers.first());
    let out = compute(password, &*salt, pepper, cost.argon2()?, memory)?;
    let HashParams { m, t, p } = cost;
    let (salt, out) = (STANDARD_NO_PAD.encode(*salt), STANDARD_NO_PAD.encode(*out));
    let keyid = pepper.map(|pepper| format!(",keyid={}", STANDARD_NO_PAD.encode(pepper.id)));
    let keyid = keyid.unwrap_or_default();
    Ok(format!(
        "$argon2id$v=19$m={m},t={t},p={p}{keyid}${salt}${out}"
    ))
}

/// One hash of that cost, to measure it.
pub(crate) fn hash_once(password: &str, cost: HashParams) -> Result<(), AccountsError> {
    hash(password, cost, &[], &mut Memory::new()).map(drop)
}

/// Whether `stored` is the hash of `password`.
///
/// # Errors
///
/// [`AccountsError::HashNotUsable`] for what is not a hash of this program, or costs too much; [`AccountsError::PepperNotUsable`] for one
/// whose pepper is not among `peppers`.
pub(super) fn verify(
    password: &str,
    stored: &str,
    today: HashParams,
    peppers: &[Pepper],
    memory: &mut Memory,
) -> Result<Checked, AccountsError> {
    let parsed = PasswordHash::new(stored).map_err(|_| AccountsError::HashNotUsable)?;
    let is_ours = parsed.algorithm
        == Ident::new("argon2id").map_err(|_| AccountsError::HashNotUsable)?
        && parsed.version == Some(19);
    let params = Params::try_from(&parsed).map_err(|_| AccountsError::HashNotUsable)?;
    let cost = HashParams {
        m: params.m_cost(),
        t: params.t_cost(),
        p: params.p_cost(),
    };
    let is_bearable = cost.m <= MOST_MEMORY && cost.t <= MOST_PASSES && cost.p <= MOST_LANES;
    let (Some(salt), Some(expected), true, true) = (parsed.salt, parsed.hash, is_ours, is_bearable)
    else {
        return Err(AccountsError::HashNotUsable);
    };
    if expected.len() != OUTPUT {
        return Err(AccountsError::HashNotUsable);
    }
    let pepper = match params.keyid() {
        [] => None,
        id => Some(
            peppers
                .iter()
                .find(|pepper| pepper.id == id)
                .ok_or(AccountsError::PepperNotUsable)?,
        ),
    };
    let found = compute(password, &salt, pepper, cost.argon2()?, memory)?;
    let is_first = pepper.map(|it| it.id) == peppers.first().map(|it| it.id);
    Ok(Checked {
        is_right: constant_time::verify_slices_are_equal(&*found, expected.as_bytes()).is_ok(),
        is_old: cost != today || !is_first,
    })
}

fn compute(
    password: &str,
    salt: &[u8],
    pepper: Option<&Pepper>,
    params: Params,
    memory: &mut Memory,
) -> Result<Zeroizing<[u8; OUTPUT]>, AccountsError> {
    let blocks = params.block_count();
    if memory.len() < blocks {
        memory.resize_with(blocks, Block::default);
    }
    let mut out = Zeroizing::new([0; OUTPUT]);
    let argon2 = match pepper {
        None => Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
        Some(pepper) => {
            Argon2::new_with_secret(&pepper.key, Algorithm::Argon2id, Version::V0x13, params)
                .map_err(|_| AccountsError::HashNotUsable)?
        }
    };
    argon2
        .hash_password_into_with_memory(password.as_bytes(), salt, &mut *out, &mut memory[..blocks])
        .map_err(|_| AccountsError::HashNotUsable)?;
    Ok(out)
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const COST: HashParams = HashParams { m: 64, t: 2, p: 1 };

    #[test]
    fn a_password_is_right_for_its_own_hash_and_old_when_the_cost_changes() {
        let mut memory = Memory::new();
        let phc = hash("correct horse", COST, &[], &mut memory).expect("hashed");
        let verify = |password, today| {
            verify(password, &phc, today, &[], &mut Memory::new()).expect("checked")
        };
        assert_eq!(
            verify("correct horse", COST),
            Checked {
                is_right: true,
                is_old: false
            }
        );
        assert!(!verify("correct horse ", COST).is_right);
        assert!(verify("correct horse", HashParams { m: 128, ..COST }).is_old);
        let library = PasswordHash::new(&phc).expect("a PHC string");
        assert_eq!(library.to_string(), phc);
    }

    #[test]
    fn a_hash_is_worth_nothing_without_its_pepper_and_old_once_another_is_first() {
        let peppers = |texts: &[[u8; 32]]| {
            let texts: Vec<String> = texts
                .iter()
                .map(|key| base64::engine::general_purpose::STANDARD.encode(key))
                .collect();
            let text = texts.join(",");
            let peppers = super::super::Peppers::fixed(Some(&text));
            peppers.now().expect("peppers")
        };
        let (one, other) = ([1; 32], [2; 32]);
        let mut memory = Memory::new();
        let first = peppers(&[one]);
        let phc = hash("correct horse", COST, &first, &mut memory).expect("hashed");
        let mut check =
            |peppers: &[Pepper]| verify("correct horse", &phc, COST, peppers, &mut memory);
        let right = |is_old| Checked {
            is_right: true,
            is_old,
        };
        assert_eq!(check(&first).expect("checked"), right(false));
        assert_eq!(
            check(&peppers(&[other, one])).expect("checked"),
            right(true)
        );
        for without in [vec![], peppers(&[other])] {
            let refused = check(&without);
            assert!(matches!(refused, Err(AccountsError::PepperNotUsable)));
        }
        // One from before there was a pepper is renewed.
        let plain = hash("correct horse", COST, &[], &mut memory).expect("hashed");
        let checked = verify("correct horse", &plain, COST, &first, &mut memory);
        assert_eq!(checked.expect("checked"), right(true));
        let library = PasswordHash::new(&phc).expect("a PHC string");
        assert_eq!(library.to_string(), phc);
    }

    #[test]
    fn a_hostile_row_is_not_computed() {
        let (salt, out) = (
            STANDARD_NO_PAD.encode([1; 16]),
            STANDARD_NO_PAD.encode([2; 32]),
        );
        for head in [
            "$argon2id$v=19$m=4194304,t=2,p=1",
            "$argon2id$v=19$m=65536,t=4000,p=1",
            "$argon2id$v=19$m=65536,t=1,p=255",
            "$argon2i$v=19$m=64,t=2,p=1",
            "$argon2id$v=16$m=64,t=2,p=1",
            "plain",
        ] {
            let stored = format!("{head}${salt}${out}");
            let mut memory = Memory::new();
            let checked = verify("x", &stored, COST, &[], &mut memory);
            assert!(checked.is_err(), "{stored}");
            assert!(memory.is_empty());
        }
    }
}
