//! Why a module cannot be mounted.

use std::{borrow::Cow, error::Error};

use dotmac_secrets::{ReferenceError, SecretReference};
use dotmac_supervision::TreeError;

/// A mistake in a module, or settings that it cannot work with. The program does not start (78).
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The component cannot be added to the tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A reference to a secret cannot be followed.
    #[error("`{component}` needs a secret whose reference is not valid")]
    Reference {
        /// The component that needs it.
        component: String,
        /// The problem.
        source: ReferenceError,
    },
    /// A secret in Vault is needed, and Vault is not enabled.
    #[error(
        "`{component}` needs the secret `{reference}`, and Vault is not enabled; set DOTMAC_VAULT_ADDR and put the secret there"
    )]
    SecretWithoutVault {
        /// The component that needs it.
        component: String,
        /// Where in Vault it should be.
        reference: SecretReference,
    },
    /// An actor that is needed was not added before.
    #[error("`{component}` needs an actor of type `{needed}`, which was not added before it")]
    NotAdded {
        /// The component that needs it.
        component: String,
        /// The actor's type.
        needed: &'static str,
    },
    /// Two values of one type: handlers could not tell which they get.
    #[error("a value of type `{0}` is provided twice")]
    ProvidedTwice(&'static str),
    /// Two values of one type for all modules.
    #[error("a value of type `{value}` is shared already, by {first}")]
    SharedTwice {
        /// Its type.
        value: &'static str,
        /// The module that shared the first.
        first: &'static str,
    },
    /// A value that another module should share.
    #[error("it needs a value of type `{value}`, which no module that is mounted before it shares")]
    NotShared {
        /// Its type.
        value: &'static str,
    },
    /// The code of the module panicked.
    #[error("it panicked: {0}")]
    Panicked(String),
    /// A setting does not fit: what and why, for the operator.
    #[error("{key}: {problem}")]
    Setting {
        /// Full name of the key.
        key: Cow<'static, str>,
        /// The problem and the valid form.
        problem: String,
    },
    /// Anything else that the module cannot start with.
    #[error("{0}")]
    Other(String, #[source] Option<Box<dyn Error + Send + Sync>>),
}

impl MountError {
    /// Something that the module cannot start with, in a sentence for the operator.
    pub fn other(problem: impl Into<String>) -> Self {
        Self::Other(problem.into(), None)
    }
}
