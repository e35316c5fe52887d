//! What to run: the children, their rules, and who needs whom.

mod spec;

pub use spec::{ChildSpec, Follow, Need, SupervisionTree, TreeError};
