//! What a relay answered, or why there is no answer, and what that means for a mail.

use std::{error::Error, fmt};

use lettre::transport::smtp::{Error as SmtpError, response::Response};

/// How much is kept of a relay's words, in bytes.
const MAX_WORDS: usize = 1024;

/// How far a mail had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The connection, the greeting, `EHLO`.
    Connect,
    /// `STARTTLS`, or TLS from the begin.
    Tls,
    /// `AUTH`.
    Auth,
    /// `MAIL FROM`.
    Mail,
    /// `RCPT TO`.
    Rcpt,
    /// `DATA`, before any content.
    Data,
    /// The content, and the answer to it.
    Content,
}

impl Stage {
    /// The verb, as people know it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Mail => "mail_from",
            Self::Rcpt => "rcpt_to",
            Self::Data => "data",
            Self::Content => "content",
        }
    }
}

/// An answer of a relay: `250 2.0.0 Ok: queued as 4F1…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) words: String,
}

impl Reply {
    pub(crate) fn new(code: u16, words: &str) -> Self {
        let words: String = words
            .chars()
            .map(|it| if it.is_control() { ' ' } else { it })
            .collect();
        let mut words = words.trim().to_owned();
        words.truncate(words.floor_char_boundary(MAX_WORDS));
        Self { code, words }
    }

    /// The enhanced status code (RFC 3463) at the begin of its words: `5.1.1`.
    pub(crate) fn enhanced(&self) -> Option<(u16, u16, u16)> {
        let mut parts = self.words.split_whitespace().next()?.split('.');
        let mut number = || parts.next()?.parse().ok();
        let code = (number()?, number()?, number()?);
        parts.next().is_none().then_some(code)
    }

    /// Whether another attempt may have another outcome.
    pub(crate) const fn is_transient(&self) -> bool {
        self.code < 500
    }
}

impl From<&Response> for Reply {
    fn from(response: &Response) -> Self {
        let lines: Vec<_> = response.message().collect();
        Self::new(response.code().into(), &lines.join(" "))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.words)
    }
}

/// Why a relay did not take a mail, or is not known to have taken it.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) stage: Stage,
    /// What it answered; `None` if it did not.
    pub(crate) reply: Option<Reply>,
    /// Why there is no answer.
    pub(crate) problem: String,
}

impl Fault {
    pub(crate) fn new(stage: Stage, problem: impl Into<String>) -> Self {
        Self {
            stage,
            reply: None,
            problem: problem.into(),
        }
    }

    /// What lettre says of a verb that did not succeed.
    pub(crate) fn of(stage: Stage, error: &SmtpError) -> Self {
        // The words of a refusal are the source of the error.
        let words = error.source().map(ToString::to_string).unwrap_or_default();
        match error.status() {
            Some(code) => Self {
                stage,
                reply: Some(Reply::new(code.into(), &words)),
                problem: String::new(),
            },
            None if error.is_tls() => Self::new(Stage::Tls, error.to_string()),
            None => Self::new(stage, error.to_string()),
        }
    }

    /// What it means for the mail.
    pub(crate) fn verdict(&self) -> Verdict {
        match (self.stage, &self.reply) {
            (Stage::Content, None) => Verdict::Unknown,
            (_, None) => Verdict::Again,
            (_, Some(reply)) if reply.is_transient() => Verdict::Again,
            // What the relay thinks of us says nothing about this mail.
            (Stage::Connect | Stage::Tls | Stage::Auth, Some(_)) => Verdict::Again,
            (Stage::Rcpt, Some(reply)) => Verdict::Bounced {
                is_lasting: is_lasting(reply),
            },
            (Stage::Mail | Stage::Data | Stage::Content, Some(_)) => Verdict::Failed,
        }
    }

    /// What an operator reads in `check --connect`: what happened, and what to do.
    pub(crate) fn advice(&self) -> String {
        let advice = match self.stage {
            Stage::Connect => "check DOTMAC_SMTP_HOST, DOTMAC_SMTP_PORT and that the relay runs",
            Stage::Tls => "check DOTMAC_SMTP_TLS, and DOTMAC_SMTP_CA_CERT for a private authority",
            Stage::Auth => "check DOTMAC_SMTP_USERNAME and DOTMAC_SMTP_PASSWORD",
            _ => "ask the relay's operator",
        };
        format!("{self}; {advice}")
    }
}

/// Whether no mail will ever reach that mailbox: it is not there, or does not take any.
pub(crate) fn is_lasting(reply: &Reply) -> bool {
    matches!(
        reply.enhanced(),
        Some((5, 1, 1 | 2 | 3 | 6 | 10) | (5, 2, 1))
    )
}

/// What a fault means for a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was not taken; another attempt is right.
    Again,
    /// The recipient is refused; `is_lasting` if no other mail will reach them either.
    Bounced {
        /// No mail will.
        is_lasting: bool,
    },
    /// The mail is refused.
    Failed,
    /// It may have been taken.
    Unknown,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reply {
            Some(reply) => write!(f, "{}: the relay answers {reply}", self.stage.as_str()),
            None => write!(f, "{}: {}", self.stage.as_str(), self.problem),
        }
    }
}

impl Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(stage: Stage, code: u16, words: &str) -> Verdict {
        let reply = Some(Reply::new(code, words));
        let problem = String::new();
        Fault {
            stage,
            reply,
            problem,
        }
        .verdict()
    }

    #[test]
    fn what_a_mail_becomes_depends_on_verb_and_answer() {
        let bounced = |is_lasting| Verdict::Bounced { is_lasting };
        for (stage, code, words, expected) in [
            (Stage::Connect, 421, "4.3.2 busy", Verdict::Again),
            (Stage::Connect, 554, "go away", Verdict::Again),
            (Stage::Auth, 535, "5.7.8 no", Verdict::Again),
            (Stage::Mail, 451, "4.3.0 later", Verdict::Again),
            (Stage::Mail, 550, "5.7.1 not you", Verdict::Failed),
            (Stage::Rcpt, 450, "4.2.1 greylisted", Verdict::Again),
            (Stage::Rcpt, 550, "5.1.1 unknown", bounced(true)),
            (Stage::Rcpt, 550, "5.7.1 denied", bounced(false)),
            (Stage::Rcpt, 550, "no such user", bounced(false)),
            (Stage::Data, 451, "later", Verdict::Again),
            (Stage::Content, 451, "4.3.0 later", Verdict::Again),
            (Stage::Content, 421, "4.3.2 stopping", Verdict::Again),
            (Stage::Content, 552, "5.3.4 too large", Verdict::Failed),
        ] {
            assert_eq!(
                verdict(stage, code, words),
                expected,
                "{stage:?} {code} {words}"
            );
        }
        for stage in [Stage::Connect, Stage::Mail, Stage::Rcpt, Stage::Data] {
            assert_eq!(Fault::new(stage, "lost").verdict(), Verdict::Again);
        }
        assert_eq!(
            Fault::new(Stage::Content, "lost").verdict(),
            Verdict::Unknown
        );
    }

    #[test]
    fn words_are_one_bounded_line() {
        let reply = Reply::new(250, &format!("2.0.0 Ok\r\nqueued {}", "x".repeat(5000)));
        assert!(reply.words.starts_with("2.0.0 Ok  queued") && reply.words.len() <= MAX_WORDS);
        assert_eq!(reply.enhanced(), Some((2, 0, 0)));
        assert_eq!(Reply::new(550, "no such user").enhanced(), None);
        assert_eq!(Reply::new(550, "5.1 x").enhanced(), None);
    }
}
