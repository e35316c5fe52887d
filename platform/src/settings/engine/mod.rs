//! How a text of the environment becomes a value: layers, declarations of keys, parsing, mistakes.

pub(super) mod appliers;
pub(super) mod catalogue;
pub(super) mod declare;
pub(super) mod dotenv;
pub(super) mod error;
pub(super) mod facts;
pub(super) mod group;
pub(super) mod live;
pub(super) mod load;
pub(super) mod rules;
pub(super) mod secrets;
pub(super) mod source;
pub(super) mod unknown;
pub(super) mod value;
