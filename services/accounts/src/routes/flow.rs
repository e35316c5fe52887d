//! The cookie by which a browser proves that it asked for a mail.

use std::time::Duration;

use dotmac_platform::routing::{RequestHead, WithHeaders};
use secrecy::SecretString;

use crate::{
    AccountsError, cookies,
    secret_text::{self, Prefix},
    service::Service,
};

/// As long as the mails that live longest.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// A browser that asks for a mail.
pub(super) struct Browser {
    /// What links are bound to.
    pub(super) hash: Vec<u8>,
    cookie: SecretString,
    is_secure: bool,
}

impl Browser {
    /// The browser of the request: the one of its cookie, else a new one.
    pub(super) fn of(on: &Service, head: &RequestHead) -> Result<Self, AccountsError> {
        let is_secure = on.settings.has_secure_cookies(head.is_secure());
        let known = head.cookie(cookies::flow_name(is_secure));
        let known = known.and_then(|text| Some((secret_text::read(Prefix::Browser, text)?, text)));
        let (hash, cookie) = match known {
            Some((hash, text)) => (hash, SecretString::from(text)),
            None => {
                let minted = secret_text::mint(Prefix::Browser)?;
                (minted.hash, minted.text)
            }
        };
        Ok(Self {
            hash,
            cookie,
            is_secure,
        })
    }

    /// The hash of the request's cookie, if it brings one.
    pub(super) fn given(on: &Service, head: &RequestHead) -> Option<Vec<u8>> {
        let is_secure = on.settings.has_secure_cookies(head.is_secure());
        let text = head.cookie(cookies::flow_name(is_secure))?;
        secret_text::read(Prefix::Browser, text)
    }

    /// The reply by which the browser is known again.
    pub(super) fn remembered<R>(&self, reply: WithHeaders<R>) -> WithHeaders<R> {
        let name = cookies::flow_name(self.is_secure);
        let cookie = cookies::set(name, &self.cookie, KEPT, self.is_secure);
        reply.header("set-cookie", &cookie)
    }
}
