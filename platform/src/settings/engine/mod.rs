//! How a text of the environment becomes a value: layers, declarations of keys, parsing, mistakes.

pub(super) mod dotenv;
pub(super) mod error;
pub(super) mod facts;
pub(super) mod group;
pub(super) mod load;
pub(super) mod source;
pub(super) mod unknown;
pub(super) mod value;
