//! Leases: their clock (pure rules), their holders, their rotation, and what is revoked once no holder is left.

mod clock;
mod hold;
mod leased;
mod revocation;
mod rotation;

pub(crate) use clock::{Due, LeaseClock};
pub use hold::LeaseHold;
pub(crate) use leased::Leased;
pub(crate) use rotation::{Rotation, RotationEvent};
