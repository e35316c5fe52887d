//! Files that mails have attached to them: whether they may be, and their bytes when a mail is sent.
//!
//! A notification keeps ids. What is sent is the file as it is then; one that is gone by then is why its mail fails.

use std::{collections::BTreeSet, time::Duration};

use dotmac_platform::{
    db::{TenantScope, TenantTx},
    files::{FileReadError, SharedFileReader},
    jobs::JobError,
};
use tokio::sync::OwnedSemaphorePermit;

use super::{recipients::Planned, said::Said};
use crate::{
    bodies::{NewAttachment, NewNotification},
    channel::Channel,
    error::{NotificationsError, WrongField},
    service::Service,
    smtp::{MAX_MAIL, MailFile},
    store::attachments::FileId,
};

/// What is left of a mail for its headers, and for what a template becomes.
const ROOM: u64 = 64 * 1024;

/// How soon a mail is tried again that found too many with files under way.
const BUSY: Duration = Duration::from_millis(500);

/// The files that a notification asks for, if its mails may have them.
///
/// # Errors
///
/// [`NotificationsError::Wrong`] names each file at fault, and why.
pub(super) async fn check(
    tx: &mut TenantTx,
    service: &Service,
    may_read: bool,
    new: &NewNotification,
    (planned, said): (&[Planned], &Said),
) -> Result<Vec<FileId>, NotificationsError> {
    let asked = new.attachments.as_deref().unwrap_or_default();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let Some(files) = service.files.get() else {
        return Err(NotificationsError::NoFiles);
    };
    if !may_read {
        return Err(NotificationsError::MayNotRead);
    }
    let wrong = |code, problem: &str| Err(NotificationsError::field("attachments", code, problem));
    let most = service.settings.max_attachments;
    if asked.len() > most {
        return wrong("too_many", &format!("has more than {most} files"));
    }
    if new.digest.is_some() {
        return wrong(
            "digest",
            "cannot be used with `digest`: several mails become one",
        );
    }
    if !planned.iter().any(|it| it.channel == Channel::Email) {
        return wrong(
            "channel",
            "goes by the channel `email` alone, and no recipient has it",
        );
    }
    let size = sizes(tx, files, asked).await?;
    let most = service.settings.max_attachment_size.bytes();
    if size > most {
        let problem = format!("has {size} bytes; {most} are allowed together");
        return wrong("too_large", &problem);
    }
    let content = &said.content;
    let written: usize = [&content.text, &content.html]
        .into_iter()
        .flatten()
        .map(String::len)
        .sum();
    if encoded(size + written as u64) + ROOM > MAX_MAIL as u64 {
        let problem = "makes a mail of more than 10 MiB, together with its text";
        return wrong("too_large", problem);
    }
    Ok(asked.iter().map(|it| FileId::from_uuid(it.file)).collect())
}

/// How many bytes the files have together. All that cannot be sent are named.
async fn sizes(
    tx: &mut TenantTx,
    files: &SharedFileReader,
    asked: &[NewAttachment],
) -> Result<u64, NotificationsError> {
    let (mut size, mut wrong, mut seen) = (0_u64, Vec::new(), BTreeSet::new());
    for (place, it) in asked.iter().enumerate() {
        let (code, problem) = match files.find(tx, it.file).await {
            Ok(_) if !seen.insert(it.file) => ("duplicate", "is attached already".to_owned()),
            Ok(facts) => {
                size = size.saturating_add(facts.size);
                continue;
            }
            Err(FileReadError::Db(error)) => return Err(error.into()),
            Err(error) => (word(&error), problem(&error)),
        };
        wrong.push(WrongField::new(
            format!("attachments[{place}].file"),
            code,
            problem,
        ));
    }
    match wrong.is_empty() {
        true => Ok(size),
        false => Err(NotificationsError::Wrong(wrong)),
    }
}

/// The word for why a file cannot be sent.
const fn word(error: &FileReadError) -> &'static str {
    match error {
        FileReadError::NotFound => "unknown_file",
        FileReadError::NotReady(_) => "not_ready",
        FileReadError::TooLarge(_) => "too_large",
        FileReadError::Damaged => "damaged",
        FileReadError::Unavailable(_) | FileReadError::Db(_) => "unavailable",
    }
}

fn problem(error: &FileReadError) -> String {
    match error {
        FileReadError::NotFound => "is no file of the tenant".to_owned(),
        FileReadError::NotReady(state) => {
            format!("is `{state}`; only a file that is `ready` can be sent")
        }
        error => error.to_string(),
    }
}

/// Bytes of base64 in lines of 76 characters.
const fn encoded(bytes: u64) -> u64 {
    let text = bytes.div_ceil(3) * 4;
    text + text.div_ceil(76) * 2
}

/// Why the files of a mail are not there.
#[derive(Debug)]
pub(super) enum Missing {
    /// They never will be: the word for why, and what is wrong.
    Never(&'static str, String),
    /// They may be another time, after an attempt that counts.
    Later(String),
    /// Nothing was tried.
    NotYet(JobError),
}

/// The files of a mail, read now, and the place of the mail among those whose files are in memory at once.
pub(super) async fn read(
    service: &Service,
    scope: &TenantScope,
    ids: &[FileId],
) -> Result<(Vec<MailFile>, Option<OwnedSemaphorePermit>), Missing> {
    if ids.is_empty() {
        return Ok((Vec::new(), None));
    }
    let place = service.attaching.clone().try_acquire_owned();
    let place = place.map_err(|_| {
        let wait = BUSY.mul_f64(1.0 + fastrand::f64());
        let message = "as many mails with files are under way as may be";
        Missing::NotYet(JobError::not_yet(wait, "attachments_busy", message))
    })?;
    let files = service.files.get().ok_or_else(|| {
        let problem = "the program keeps no files any more".to_owned();
        Missing::Never("attachment_unavailable", problem)
    })?;
    let mut left = service.settings.max_attachment_size.bytes();
    let mut read = Vec::with_capacity(ids.len());
    for id in ids {
        let found = files.read(scope, id.uuid(), left).await;
        let found = found.map_err(|error| missing(*id, error))?;
        left = left.saturating_sub(found.bytes.len() as u64);
        read.push(MailFile {
            name: found.facts.name,
            media_type: found.facts.media_type,
            bytes: found.bytes,
        });
    }
    Ok((read, Some(place)))
}

fn missing(id: FileId, error: FileReadError) -> Missing {
    let (word, problem) = match error {
        FileReadError::Db(error) => return Missing::NotYet(error.into()),
        FileReadError::Unavailable(problem) => return Missing::Later(problem),
        FileReadError::NotFound => ("attachment_gone", "is not there any more".to_owned()),
        FileReadError::NotReady(state) => ("attachment_not_ready", format!("is `{state}`")),
        FileReadError::TooLarge(size) => {
            let problem = format!("has {size} bytes, which are too many by now");
            ("attachment_too_large", problem)
        }
        FileReadError::Damaged => {
            let problem = "has not the bytes that were stored".to_owned();
            ("attachment_damaged", problem)
        }
    };
    Missing::Never(word, format!("the file {id} {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_known_before_it_is_encoded() {
        assert_eq!([0, 1, 3, 57, 58].map(encoded), [0, 6, 6, 78, 84]);
        let most = 7 * 1024 * 1024;
        assert!(encoded(most) + ROOM < MAX_MAIL as u64);
    }

    #[test]
    fn what_is_missing_has_a_word_of_its_own() {
        let id = FileId::from_uuid(uuid::Uuid::nil());
        for (error, expected) in [
            (FileReadError::NotFound, "attachment_gone"),
            (FileReadError::TooLarge(9), "attachment_too_large"),
            (FileReadError::Damaged, "attachment_damaged"),
            (
                FileReadError::NotReady("quarantined".to_owned()),
                "attachment_not_ready",
            ),
        ] {
            let Missing::Never(word, problem) = missing(id, error) else {
                unreachable!("it never comes back");
            };
            assert_eq!(word, expected);
            assert!(problem.starts_with("the file 00000000-"), "{problem}");
        }
        let away = FileReadError::Unavailable("away".to_owned());
        assert!(matches!(missing(id, away), Missing::Later(_)));
    }
}
