//! Rules of links. A link is a token of 256 random bits, of which the database has the hash: reading the
//! database opens nothing.

use std::time::Duration;

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dotmac_platform::{
    access::Principal,
    audit::Audited,
    db::{
        Connection, TenantTx, Tx,
        types::{Id, Moment},
    },
    routing::IfMatch,
};

use crate::{
    FilesError,
    audit::{LINK, UNLINK, record},
    digest::Hasher,
    rules::files,
    store::{
        files::FileId,
        links::{self as store, LinkId, LinkRow},
    },
};

/// How long a link is valid by default, and at most.
const USUAL: Duration = Duration::from_secs(7 * 24 * 3600);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// The most links of one file, including those that have ended.
const MOST: i64 = 1000;

/// How long after a download the rest of it can be read without counting again.
const READING_ON: Duration = Duration::from_secs(3600);

/// The terms of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) expires_at: Option<Moment>,
    pub(crate) max_downloads: Option<i64>,
}

/// Makes a link to a file that can be read; the link, and what opens it.
///
/// # Errors
///
/// [`FilesError::NotFound`], [`FilesError::State`], [`FilesError::TooManyLinks`], 422.
pub(crate) async fn create(
    tx: &mut TenantTx,
    who: &Principal,
    file: FileId,
    terms: Terms,
) -> Result<Audited<(LinkRow, String)>, FilesError> {
    files::readable(tx, file).await?;
    let now = Moment::now();
    let expires_at = terms.expires_at.unwrap_or(now + USUAL);
    if expires_at <= now || expires_at > now + LONGEST {
        return Err(FilesError::field(
            "expires_at",
            "must be in the future, and within a year",
        ));
    }
    if store::count(tx, file).await? >= MOST {
        return Err(FilesError::TooManyLinks);
    }
    let token = token()?;
    let row = LinkRow {
        tenant_id: tx.tenant(),
        id: LinkId::new(),
        file_id: file,
        token_hash: hash(&token),
        created_by: Id::from_uuid(who.id),
        expires_at,
        max_downloads: terms.max_downloads,
        downloads: 0,
        downloaded_at: None,
        revoked_at: None,
        created_at: now,
    };
    store::insert(tx, row.clone()).await?;
    Ok(record(tx, LINK, file)?.of((row, token)))
}

/// Ends a link, if it is in a version that the client has seen.
///
/// # Errors
///
/// [`FilesError::NoLink`], [`FilesError::Changed`].
pub(crate) async fn revoke(
    tx: &mut TenantTx,
    file: FileId,
    id: LinkId,
    seen: &IfMatch,
) -> Result<Audited<()>, FilesError> {
    let link = store::find(tx, file, id).await?;
    seen.check(link.ok_or(FilesError::NoLink)?.version())?;
    if !store::revoke(tx, file, id, Moment::now()).await? {
        return Err(FilesError::NoLink);
    }
    Ok(record(tx, UNLINK, file)?.of(()))
}

/// The link that a token opens.
///
/// # Errors
///
/// [`FilesError::NoLink`]; [`FilesError::LinkGone`] for one that has expired or was revoked.
pub(crate) async fn open(c: &mut Connection, token: &str) -> Result<LinkRow, FilesError> {
    let link = store::find_by_hash(c, hash(token)).await?;
    let link = link.ok_or(FilesError::NoLink)?;
    if link.revoked_at.is_some() || link.expires_at <= Moment::now() {
        return Err(FilesError::LinkGone);
    }
    Ok(link)
}

/// Whether a request that sends bytes from `first` on, or none, is a download that counts. One that reads on where an earlier
/// one ended is not, for a while.
///
/// # Errors
///
/// [`FilesError::LinkGone`] for a link that was used as often as it may be.
pub(crate) fn counts(link: &LinkRow, first: Option<u64>, now: Moment) -> Result<bool, FilesError> {
    let began = link.downloaded_at;
    let reads_on = first > Some(0) && began.is_some_and(|began| now < began + READING_ON);
    let most = link.max_downloads;
    match most.is_some_and(|most| link.downloads >= most) {
        _ if reads_on => Ok(false),
        true => Err(FilesError::LinkGone),
        false => Ok(first.is_some()),
    }
}

/// Counts a download.
///
/// # Errors
///
/// [`FilesError::LinkGone`] if others were faster, or the link was revoked.
pub(crate) async fn count(tx: &mut Tx, link: &LinkRow) -> Result<(), FilesError> {
    match store::count_download(tx, link, Moment::now()).await? {
        true => Ok(()),
        false => Err(FilesError::LinkGone),
    }
}

fn token() -> Result<String, FilesError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| FilesError::NoRandom)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn hash(token: &str) -> String {
    let mut hasher = Hasher::new();
    hasher.read(token.as_bytes());
    hasher.finish().hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_counts_once() {
        let now = Moment::now();
        let link = |downloads, began: Option<u64>| LinkRow {
            tenant_id: dotmac_platform::db::TenantId::from_uuid(uuid::Uuid::nil()),
            id: LinkId::new(),
            file_id: FileId::new(),
            token_hash: String::new(),
            created_by: Id::from_uuid(uuid::Uuid::nil()),
            expires_at: now,
            max_downloads: Some(2),
            downloads,
            downloaded_at: began.map(|ago| now - Duration::from_secs(ago)),
            revoked_at: None,
            created_at: now,
        };
        let of = |downloads, began, first| counts(&link(downloads, began), first, now).ok();
        assert_eq!(of(0, None, Some(0)), Some(true));
        assert_eq!(of(0, None, None), Some(false));
        // Without a begun download there is none to continue.
        assert_eq!(of(0, None, Some(5)), Some(true));
        assert_eq!(of(1, Some(10), Some(5)), Some(false));
        assert_eq!(of(1, Some(3601), Some(5)), Some(true));
        assert_eq!(of(2, Some(10), Some(5)), Some(false));
        assert_eq!(of(2, Some(3601), Some(5)), None);
        assert_eq!(of(2, Some(10), Some(0)), None);
        assert_eq!(of(2, Some(10), None), None);
    }
}
