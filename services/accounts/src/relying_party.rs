//! The relying party of WebAuthn: what it asks of authenticators, and whether their answers are right. Knows no table.
//!
//! User verification is always required, so a passkey is two factors by itself. Whether a passkey may be backed up, and is, can
//! change with each use: a provider that begins to synchronise keys changes the flag of those that there are, which must
//! stay good. A counter that does not go up is refused if both its values are above 0; many authenticators
//! always say 0, and one that begins to synchronise says 0 from then on.

use serde::Deserialize;
use serde_json::Value;
use url::{Host, Url};
use webauthn_rp::{
    AuthenticatedCredential, DiscoverableAuthentication64, DiscoverableAuthenticationServerState,
    DiscoverableCredentialRequestOptions, NonDiscoverableAuthentication64,
    NonDiscoverableAuthenticationServerState, NonDiscoverableCredentialRequestOptions,
    PublicKeyCredentialCreationOptions, Registration, RegistrationServerState,
    bin::{Decode, Encode},
    request::{
        AsciiDomain, BackupReq, Credentials as _, ExtensionReq, PublicKeyCredentialDescriptor,
        RpId, UserVerificationRequirement,
        auth::{
            AllowedCredentials, AuthenticationVerificationOptions, SignatureCounterEnforcement,
        },
        register::{
            CredProtect, Nickname, PublicKeyCredentialUserEntity, RegistrationVerificationOptions,
            ResidentKeyRequirement, UserHandle64, Username,
        },
    },
    response::{
        AuthTransports, AuthenticatorAttachment, Backup, CredentialId,
        auth::{
            error::AuthCeremonyErr,
            ser_relaxed::{
                DiscoverableAuthenticationRelaxed64, NonDiscoverableAuthenticationRelaxed64,
            },
        },
        register::{CompressedPubKey, DynamicState, StaticState, ser_relaxed::RegistrationRelaxed},
    },
};

use crate::{
    AccountsError,
    store::passkeys::{PasskeyRow, PasskeyState},
};

/// Bytes of what authenticators know a user by.
pub(crate) const USER_HANDLE: usize = 64;

/// Where the counter is in what an authenticator signs (WebAuthn 3, 6.1): after the hash of the relying party's id and the flags.
const COUNTER: std::ops::Range<usize> = 33..37;

/// A stored public key.
type Key = CompressedPubKey<[u8; 32], [u8; 32], [u8; 48], Vec<u8>>;

/// Who asks authenticators: the host of the public address, on whose pages alone passkeys work.
pub(crate) struct RelyingParty {
    id: RpId,
    origin: String,
}

/// What a client is asked, and what is kept to check its answer.
pub(crate) struct Begun {
    /// For `navigator.credentials`.
    pub(crate) options: Value,
    pub(crate) state: Vec<u8>,
}

/// The user of a registration, as the authenticator shows it.
pub(crate) struct NamedUser<'u> {
    pub(crate) name: &'u str,
    pub(crate) full_name: Option<&'u str>,
    pub(crate) handle: [u8; USER_HANDLE],
}

/// A passkey that an authenticator has made.
pub(crate) struct Registered {
    pub(crate) user_handle: Vec<u8>,
    pub(crate) credential_id: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) transports: i32,
    pub(crate) aaguid: String,
    pub(crate) discoverable: Option<bool>,
    pub(crate) state: PasskeyState,
}

/// A passkey that may answer: its id, and how it is reached.
pub(crate) type Descriptor = (Vec<u8>, i32);

/// What a client answers with a passkey.
pub(crate) enum Answer {
    /// To a request that named no passkey; it says whose it is.
    Discoverable(DiscoverableAuthentication64),
    /// To a request that named those which may answer.
    Listed(NonDiscoverableAuthentication64),
}

/// Why an answer does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is none, or not to what was asked, or not signed by the passkey.
    Wrong,
    /// It is signed, but the counter did not go up: there may be a copy of the passkey.
    Counter,
}

impl RelyingParty {
    /// That of the public address; `None` if that has no host name.
    pub(crate) fn of(public_url: &Url) -> Option<Self> {
        let Host::Domain(host) = public_url.host()? else {
            return None;
        };
        Some(Self {
            id: RpId::Domain(AsciiDomain::try_from(host.to_owned()).ok()?),
            origin: public_url.origin().ascii_serialization(),
        })
    }

    /// Asks for a new passkey on an authenticator that has none of `existing`.
    pub(crate) fn begin_registration(
        &self,
        user: &NamedUser<'_>,
        existing: Vec<Descriptor>,
    ) -> Result<Begun, AccountsError> {
        let Ok(handle) = UserHandle64::decode(user.handle);
        // What the rules of such names (RFC 8265, 8266) refuse is not shown.
        let name = Username::try_from(user.name).or_else(|_| Username::try_from("user"));
        let entity = PublicKeyCredentialUserEntity {
            name: name.map_err(|_| AccountsError::FactorNotUsable)?,
            id: &handle,
            display_name: user.full_name.and_then(|it| Nickname::try_from(it).ok()),
        };
        let existing = existing.into_iter().filter_map(descriptor).collect();
        let mut options = PublicKeyCredentialCreationOptions::passkey(&self.id, entity, existing);
        options.authenticator_selection.resident_key = ResidentKeyRequirement::Preferred;
        options.extensions.cred_props = Some(ExtensionReq::Allow);
        // Authenticators that do not know the extension must do as well; the user is verified at each use in any case.
        options.extensions.cred_protect = CredProtect::None;
        let (server, client) = options
            .start_ceremony()
            .map_err(|_| AccountsError::FactorNotUsable)?;
        begun(
            serde_json::to_value(&client),
            server.encode().map_err(|_| ()),
        )
    }

    /// The passkey that an answer to [`begin_registration`](Self::begin_registration) has; `None` for any other.
    pub(crate) fn registered(&self, state: &[u8], answer: &Registration) -> Option<Registered> {
        let server = RegistrationServerState::<USER_HANDLE>::decode(state).ok()?;
        let origins = [self.origin.as_str()];
        let options = RegistrationVerificationOptions::<&str, &str> {
            allowed_origins: &origins,
            error_on_unsolicited_extensions: false,
            ..Default::default()
        };
        let credential = server.verify(&self.id, answer, &options).ok()?;
        let (id, transports, handle, fixed, changing, metadata) = credential.into_parts();
        let Ok(data) = fixed.encode();
        let Ok(transports) = transports.encode();
        let properties = metadata.client_extension_results.cred_props;
        Some(Registered {
            user_handle: handle.as_ref().to_vec(),
            credential_id: id.as_ref().to_vec(),
            data,
            transports: transports.into(),
            aaguid: uuid::Uuid::from_slice(metadata.aaguid.data())
                .ok()?
                .to_string(),
            discoverable: properties.and_then(|it| it.rk),
            state: said(changing),
        })
    }

    /// Asks for any passkey of any user.
    pub(crate) fn begin_discoverable(&self) -> Result<Begun, AccountsError> {
        let options = DiscoverableCredentialRequestOptions::passkey(&self.id);
        let (server, client) = options
            .start_ceremony()
            .map_err(|_| AccountsError::FactorNotUsable)?;
        begun(
            serde_json::to_value(&client),
            server.encode().map_err(|_| ()),
        )
    }

    /// Asks for one of `listed`, of which there is at least one.
    pub(crate) fn begin_listed(&self, listed: Vec<Descriptor>) -> Result<Begun, AccountsError> {
        let mut allowed = AllowedCredentials::with_capacity(listed.len());
        for descriptor in listed.into_iter().filter_map(descriptor) {
            allowed.push(descriptor.into());
        }
        let mut options = NonDiscoverableCredentialRequestOptions::second_factor(&self.id, allowed)
            .map_err(|_| AccountsError::FactorNotUsable)?;
        options.options().user_verification = UserVerificationRequirement::Required;
        let (server, client) = options
            .start_ceremony()
            .map_err(|_| AccountsError::FactorNotUsable)?;
        begun(
            serde_json::to_value(&client),
            server.encode().map_err(|_| ()),
        )
    }

    /// What the passkey says of itself with an answer to what was asked.
    ///
    /// # Errors
    ///
    /// [`Fault`] if the answer does not count.
    pub(crate) fn verify(
        &self,
        state: &[u8],
        answer: &Answer,
        passkey: &PasskeyRow,
    ) -> Result<PasskeyState, Fault> {
        let origins = [self.origin.as_str()];
        let options = AuthenticationVerificationOptions::<&str, &str> {
            allowed_origins: &origins,
            backup_requirement: Some(BackupReq::None),
            error_on_unsolicited_extensions: false,
            sig_counter_enforcement: match answer.counter() {
                Some(0) => SignatureCounterEnforcement::Ignore,
                _ => SignatureCounterEnforcement::Fail,
            },
            ..Default::default()
        };
        let handle: [u8; USER_HANDLE] = passkey.user_handle.as_slice().try_into().map_err(wrong)?;
        let Ok(handle) = UserHandle64::decode(handle);
        let id = CredentialId::<&[u8]>::decode(&passkey.credential_id).map_err(wrong)?;
        let fixed = StaticState::<Key>::decode(&passkey.data).map_err(wrong)?;
        let mut credential =
            AuthenticatedCredential::new(id, &handle, fixed, stored(passkey)?).map_err(wrong)?;
        let verified = match answer {
            Answer::Discoverable(answer) => {
                let server = DiscoverableAuthenticationServerState::decode(state).map_err(wrong)?;
                server.verify(&self.id, answer, &mut credential, &options)
            }
            Answer::Listed(answer) => {
                let server =
                    NonDiscoverableAuthenticationServerState::decode(state).map_err(wrong)?;
                server.verify(&self.id, answer, &mut credential, &options)
            }
        };
        match verified {
            Ok(_) => Ok(said(credential.dynamic_state())),
            Err(AuthCeremonyErr::SignatureCounter) => Err(Fault::Counter),
            Err(_) => Err(Fault::Wrong),
        }
    }
}

impl Answer {
    /// Reads what `PublicKeyCredential.toJSON()` gives in a browser.
    pub(crate) fn read(is_listed: bool, credential: &Value) -> Option<Self> {
        if is_listed {
            let answer = read_json::<NonDiscoverableAuthenticationRelaxed64>(credential)?;
            return Some(Self::Listed(answer.0));
        }
        let answer = read_json::<DiscoverableAuthenticationRelaxed64>(credential)?;
        Some(Self::Discoverable(answer.0))
    }

    /// The id of the passkey.
    pub(crate) fn credential_id(&self) -> Vec<u8> {
        let id = match self {
            Self::Discoverable(answer) => answer.raw_id(),
            Self::Listed(answer) => answer.raw_id(),
        };
        id.as_ref().to_vec()
    }

    fn counter(&self) -> Option<u32> {
        let signed = match self {
            Self::Discoverable(answer) => answer.response().authenticator_data(),
            Self::Listed(answer) => answer.response().authenticator_data(),
        };
        let bytes = signed.get(COUNTER)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    }
}

/// Reads the answer to a registration, as `PublicKeyCredential.toJSON()` gives it in a browser.
pub(crate) fn read_registration(credential: &Value) -> Option<Registration> {
    Some(read_json::<RegistrationRelaxed>(credential)?.0)
}

fn read_json<'j, T: Deserialize<'j>>(json: &'j Value) -> Option<T> {
    T::deserialize(json).ok()
}

fn begun(
    options: serde_json::Result<Value>,
    state: Result<Vec<u8>, ()>,
) -> Result<Begun, AccountsError> {
    match (options, state) {
        (Ok(options), Ok(state)) => Ok(Begun { options, state }),
        _ => Err(AccountsError::FactorNotUsable),
    }
}

/// As the library wants it; `None` for a stored one that cannot be.
fn descriptor((id, transports): Descriptor) -> Option<PublicKeyCredentialDescriptor<Vec<u8>>> {
    Some(PublicKeyCredentialDescriptor {
        id: CredentialId::<Vec<u8>>::decode(id).ok()?,
        transports: AuthTransports::decode(u8::try_from(transports).ok()?).ok()?,
    })
}

fn said(state: DynamicState) -> PasskeyState {
    PasskeyState {
        backup_eligible: state.backup != Backup::NotEligible,
        backup_state: state.backup == Backup::Exists,
        sign_count: state.sign_count.into(),
    }
}

fn stored(passkey: &PasskeyRow) -> Result<DynamicState, Fault> {
    Ok(DynamicState {
        user_verified: true,
        backup: match (passkey.backup_eligible, passkey.backup_state) {
            (false, _) => Backup::NotEligible,
            (true, false) => Backup::Eligible,
            (true, true) => Backup::Exists,
        },
        sign_count: passkey.sign_count.try_into().map_err(wrong)?,
        authenticator_attachment: AuthenticatorAttachment::None,
    })
}

fn wrong<E>(_: E) -> Fault {
    Fault::Wrong
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_numbers_has_no_passkeys_and_one_with_a_port_has() {
        let of = |url: &str| RelyingParty::of(&url.parse().expect("a URL"));
        assert!(of("http://127.0.0.1:8000").is_none());
        assert!(of("http://[::1]:8000").is_none());
        let party = of("https://Accounts.example.com:8443/base").expect("it has a host name");
        assert_eq!(party.origin, "https://accounts.example.com:8443");
        assert_eq!(party.id.as_ref(), "accounts.example.com");
    }

    #[test]
    fn a_registration_asks_for_what_the_contract_says() {
        let party = RelyingParty::of(&"http://localhost:8000".parse().expect("a URL"));
        let party = party.expect("it has a host name");
        let user = NamedUser {
            name: "ann+test@example.com",
            full_name: Some("Ann Example"),
            handle: [7; USER_HANDLE],
        };
        let existing = vec![(vec![9; 32], 0)];
        let begun = party.begin_registration(&user, existing).expect("options");
        let options = &begun.options;
        assert_eq!(options["rp"]["id"], "localhost");
        assert_eq!(options["user"]["name"], "ann+test@example.com");
        let selection = &options["authenticatorSelection"];
        assert_eq!(selection["residentKey"], "preferred");
        assert_eq!(selection["userVerification"], "required");
        assert_eq!(options["extensions"]["credProps"], true);
        assert_eq!(
            options["excludeCredentials"].as_array().map(Vec::len),
            Some(1)
        );
        assert!(RegistrationServerState::<USER_HANDLE>::decode(&begun.state).is_ok());

        let listed = party.begin_listed(vec![(vec![9; 32], 0)]).expect("options");
        assert_eq!(listed.options["userVerification"], "required");
        assert_eq!(
            listed.options["allowCredentials"].as_array().map(Vec::len),
            Some(1)
        );
        assert!(party.begin_listed(Vec::new()).is_err());
    }
}
