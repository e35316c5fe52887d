//! What is written in mails. A link has its token behind `#`, where no server on the way sees it.

use dotmac_platform::mail::MailTemplate;

/// A paragraph as text: a literal, `url` for the link, `code` for the code.
macro_rules! text {
    (url) => {
        "{{ url }}\n\n"
    };
    (code) => {
        "Code: {{ code }}\n\n"
    };
    ($words:literal) => {
        concat!($words, "\n\n")
    };
}

/// The same as HTML.
macro_rules! html {
    (url) => {
        "<p><a href=\"{{ url }}\">{{ url }}</a></p>"
    };
    (code) => {
        "<p>Code: <strong>{{ code }}</strong></p>"
    };
    ($words:literal) => {
        concat!("<p>", $words, "</p>")
    };
}

/// The mails: `NAME = "purpose", "subject" { its paragraphs }`.
macro_rules! letters {
    ($($(#[$doc:meta])+ $name:ident = $purpose:literal, $subject:literal { $($part:tt)+ })+) => {
        $(
            $(#[$doc])+
            pub(crate) const $name: MailTemplate = MailTemplate {
                purpose: $purpose,
                subject: $subject,
                text: concat!("Hello {{ name }},\n\n", $(text!($part)),+),
                html: concat!("<p>Hello {{ name }},</p>", $(html!($part)),+),
            };
        )+

        /// All of them.
        #[cfg(test)]
        pub(crate) const LETTERS: &[MailTemplate] = &[$($name),+];
    };
}

letters! {
    /// A link that sets a password.
    RESET = "accounts.password_reset", "Set your password at {{ host }}" {
        "A new password was asked for at {{ host }}. It is set here, within 30 minutes and once:"
        url
        "In another browser than the one that asked, the code is needed too. Do not give it to anyone."
        code
        "If you did not ask for it, there is nothing to do: the password stays as it is."
    }
    /// A link that proves the address of an account.
    VERIFY = "accounts.email_verify", "Confirm your address at {{ host }}" {
        "This address was given at {{ host }}. Confirm within 24 hours that it is yours:"
        url
        "In another browser than the one that asked, the code is needed too. Do not give it to anyone."
        code
        "If you did not ask for it, there is nothing to do."
    }
    /// A registration with an address that has an account.
    HAVE_ACCOUNT = "accounts.have_account", "You have an account at {{ host }}" {
        "An account at {{ host }} was asked for with this address, which has one already."
        "Sign in with it. If the password is lost, a new one can be set there."
        "If it was not you, there is nothing to do."
    }
    /// A link that signs in.
    SIGN_IN = "accounts.sign_in", "Sign in at {{ host }}" {
        "This link signs you in at {{ host }}, within 10 minutes and once:"
        url
        "In another browser than the one that asked, the code is needed too. Do not give it to anyone."
        code
        "If you did not ask for it, there is nothing to do."
    }
    /// A code that signs in.
    CODE = "accounts.sign_in_code", "{{ code }} is your code at {{ host }}" {
        "This code signs you in at {{ host }}, within 10 minutes and once. Do not give it to anyone who asks."
        code
        "If you did not ask for it, there is nothing to do."
    }
    /// A link that makes an address the account's.
    CHANGE = "accounts.email_change", "Confirm your new address at {{ host }}" {
        "This is to be the address of an account at {{ host }}. Confirm it within 24 hours:"
        url
        "In another browser than the one that asked, the code is needed too. Do not give it to anyone."
        code
        "If you did not ask for it, there is nothing to do."
    }
    /// To the former address, after a change.
    CHANGED = "accounts.email_changed", "Your address at {{ host }} was changed" {
        "Another address took the place of this one at your account at {{ host }}."
        "If it was not you, this link puts this address back, within 7 days. It ends all sessions and takes the password away:"
        url
    }
    /// After a change of the password.
    PASSWORD_CHANGED = "accounts.password_changed", "Your password at {{ host }} was changed" {
        "The password of your account at {{ host }} was set or changed."
        "If it was not you, set a new one at once, by a link that is mailed to you, and see where you are signed in."
    }
    /// After a refresh token was used a second time.
    REFRESH_REUSED = "accounts.refresh_reused", "You were signed out at {{ host }}" {
        "A session of your account at {{ host }} was ended, since its token was used twice. It may have been copied."
        "Sign in again. If you do not know why this happened, change your password and see where you are signed in."
    }
    /// After so many failures that a password does not help any more.
    LOCKED = "accounts.locked", "Signing in by password is off at {{ host }}" {
        "There were so many failed tries to sign in to your account at {{ host }} that a password from an unknown device does not help any more."
        "This link signs you in within 30 minutes, and ends that:"
        url
        "A second factor protects better than a password alone."
    }
    /// After so many wrong codes that the second factor does not help any more.
    FACTOR_LOCKED = "accounts.factor_locked", "Your second factor at {{ host }} is locked" {
        "Someone got past the first step of signing in to your account at {{ host }}, and then gave so many wrong codes that codes \
         of this kind, from this device or from unknown ones, do not work for a day. Recovery codes and passkeys may still work."
        "If it was not you, someone may know your password or read your mail: set a new password at once, by a link that is \
         mailed to you, and check that only you can read your mail."
    }
    /// After a second factor was added.
    FACTOR_ADDED = "accounts.factor_added", "A second factor was added at {{ host }}" {
        "A second factor was added to your account at {{ host }}, on {{ at }}: {{ factor }}."
        "If it was not you, set a new password at once, by a link that is mailed to you, and ask those who run {{ host }} to \
         remove the factor."
    }
    /// After a second factor was removed, or all of a kind.
    FACTOR_REMOVED = "accounts.factor_removed", "A second factor was removed at {{ host }}" {
        "A second factor of your account at {{ host }} was removed, on {{ at }}: {{ factor }}."
        "If it was not you, set a new password at once, by a link that is mailed to you, and see where you are signed in."
    }
    /// After an API key was reported that was found where it should not be.
    KEY_REPORTED = "accounts.api_key_reported", "An API key at {{ host }} was found and revoked" {
        "The API key {{ key }} at {{ host }} was reported by someone who found it. It does not work any more."
        "See where it was used, and make another one if it is needed."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mail_says_where_and_has_its_link_as_text_and_as_html() {
        for letter in LETTERS {
            let purpose = letter.purpose;
            assert!(purpose.starts_with("accounts."), "{purpose}");
            assert!(letter.subject.contains("{{ host }}"), "{purpose}");
            for part in ["{{ url }}", "{{ code }}"] {
                let (text, html) = (letter.text.contains(part), letter.html.contains(part));
                assert_eq!(text, html, "{purpose}: {part}");
            }
        }
    }
}
