//! Passwords: what is accepted as one, and how they are hashed.

mod breach;
mod hasher;
mod pepper;
mod phc;
mod policy;

pub(crate) use breach::{BreachFilter, build as build_breach_filter};
pub(crate) use hasher::{Asker, Hasher, Verdict};
pub(crate) use pepper::{MALFORMED, Peppers, described_setting, is_malformed};
pub(crate) use phc::{HashParams, hash_once};
pub(crate) use policy::{Context, PasswordFault, Strength};
