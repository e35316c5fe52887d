//! One life of a child: what it says to its supervisor, and what all lives of one child share.

pub(crate) mod cell;
mod lifeline;
pub(crate) mod panic_hook;
mod published;
pub(crate) mod wire;

pub use cell::{CallObserver, CallOutcome, Vitals};
pub use lifeline::{Lifeline, Serving};
pub use panic_hook::install_panic_hook;
pub use published::Published;
