//! The kinds of connections.

/// The kind of connection that a piece of work needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}
