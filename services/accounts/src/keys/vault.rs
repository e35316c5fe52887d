//! Private signing keys in Vault: `accounts/signing/KID`, field `key`, as base64 of PKCS #8.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dotmac_platform::{
    module::ModuleVault,
    secrets::{Expected, SecretPath, SecretReference},
};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::{AccountsError, jwt::NewKey};

/// The field that has the key.
const FIELD: &str = "key";

/// Keeps the private part in Vault; whether it is there. Where a policy does not allow that, the key is sealed in the
/// database, as without Vault: sign-in must go on.
///
/// # Errors
///
/// [`AccountsError::Vault`] if Vault does not answer.
pub(super) async fn keep(vault: &ModuleVault, new: &NewKey) -> Result<bool, AccountsError> {
    let text = Zeroizing::new(STANDARD.encode(&*new.pkcs8));
    let fields = [(FIELD.to_owned(), SecretString::from(text.as_str()))].into();
    // The path is new: it is made of the key itself.
    let written = vault.write(path(&new.kid)?, fields, Expected::Any).await;
    match written {
        Ok(_) => Ok(true),
        Err(error) if error.is_write_denied() => {
            tracing::warn!(
                kid = new.kid,
                error = dotmac_causes::chain(&error),
                "the private signing key is sealed in the database: Vault does not allow to write it"
            );
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// The private part of a key that is in Vault.
///
/// # Errors
///
/// [`AccountsError::Vault`]; [`AccountsError::Signing`] for what is no key.
pub(super) async fn read(
    vault: &ModuleVault,
    kid: &str,
) -> Result<Zeroizing<Vec<u8>>, AccountsError> {
    let reference = SecretReference {
        path: path(kid)?,
        field: Some(FIELD.to_owned()),
    };
    let text = vault.read(reference).await?;
    let bytes = STANDARD.decode(text.expose_secret());
    bytes
        .map(Zeroizing::new)
        .map_err(|_| AccountsError::Signing)
}

fn path(kid: &str) -> Result<SecretPath, AccountsError> {
    let path = format!("accounts/signing/{kid}").parse();
    path.map_err(|_| AccountsError::Signing)
}
