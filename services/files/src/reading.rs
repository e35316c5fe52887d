//! The contract by which other services read files: `dotmac_platform::files`.

use dotmac_platform::{
    access::Principal,
    db::{TenantScope, TenantTx},
    files::{FileContent, FileFacts, FileReadError, FileReader},
};
use futures_util::{TryStreamExt as _, future::BoxFuture};
use uuid::Uuid;

use crate::{
    FilesError, Read,
    digest::{Hasher, Sha256},
    rules::files as rules,
    service::Service,
    store::files::{FileId, FileRow},
};

impl FileReader for Service {
    fn may_read(&self, who: &Principal) -> bool {
        who.may::<Read>()
    }

    fn find<'c>(
        &'c self,
        tx: &'c mut TenantTx,
        file: Uuid,
    ) -> BoxFuture<'c, Result<FileFacts, FileReadError>> {
        Box::pin(async move {
            let row = rules::readable(tx, FileId::from_uuid(file)).await?;
            Ok(facts(&row))
        })
    }

    fn read<'c>(
        &'c self,
        scope: &'c TenantScope,
        file: Uuid,
        most: u64,
    ) -> BoxFuture<'c, Result<FileContent, FileReadError>> {
        Box::pin(read(self, scope, FileId::from_uuid(file), most))
    }
}

async fn read(
    service: &Service,
    scope: &TenantScope,
    file: FileId,
    most: u64,
) -> Result<FileContent, FileReadError> {
    let db = service.db.tenant(scope);
    let found = db.read("find file to read", async move |tx| {
        rules::readable(tx, file).await
    });
    let row = found.await?;
    let facts = facts(&row);
    if facts.size > most {
        return Err(FileReadError::TooLarge(facts.size));
    }
    let pieces = service.storage.read(row.blob_id, 0..facts.size).await;
    let mut pieces = pieces.map_err(FilesError::from)?;
    let (mut bytes, mut hash) = (Vec::new(), Hasher::new());
    while let Some(piece) = pieces.try_next().await.map_err(FilesError::from)? {
        bytes.extend_from_slice(&piece);
        hash.read(&piece);
        if bytes.len() as u64 > facts.size {
            return Err(FileReadError::Damaged);
        }
    }
    let is_whole = bytes.len() as u64 == facts.size;
    match is_whole && Sha256::from_hex(&row.sha256) == Some(hash.finish()) {
        true => Ok(FileContent { facts, bytes }),
        false => Err(FileReadError::Damaged),
    }
}

fn facts(row: &FileRow) -> FileFacts {
    FileFacts {
        id: row.id.uuid(),
        name: row.name.clone(),
        size: u64::try_from(row.size).unwrap_or_default(),
        media_type: row.media_type.clone(),
    }
}

impl From<FilesError> for FileReadError {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::NotFound => Self::NotFound,
            FilesError::State(state) => Self::NotReady(state),
            FilesError::Storage(error) if error.is_absent() => Self::Damaged,
            FilesError::Db(error) => Self::Db(error),
            error => Self::Unavailable(error.to_string()),
        }
    }
}
