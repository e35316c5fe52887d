//! Passwords: what is accepted as one, and how they are hashed.

mod hasher;
mod phc;
mod policy;

pub(crate) use hasher::{Asker, Hasher, Verdict};
pub(crate) use phc::HashParams;
pub(crate) use policy::{Context, PasswordFault, check};
