//! Links: created and revoked with a permission, opened without credentials.

use std::time::Duration;

use dotmac_platform::{
    access::Permission as _,
    audit::Acts as _,
    db::{TenantScope, types::Moment},
    prelude::*,
    routing::{Content, ContentPart, ContentRequest, etag},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::content::{part_of, send};
use crate::{
    FilesError, Read, WriteLinks, metrics,
    rules::{
        files as file_rules,
        links::{self as rules, Terms},
    },
    service::Service,
    store::{
        files::FileId,
        links::{self as store, LinkId, LinkRow},
    },
};

/// How often one client may try tokens.
const TRIES: RateLimit = RateLimit::per_network(600, Duration::from_secs(60));

/// A link to be.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct LinkPost {
    /// Until when it is good, at most a year; for 7 days unless it is given.
    #[garde(skip)]
    expires_at: Option<Moment>,
    /// How often the file may be read by it; without a limit unless it is given.
    #[garde(range(min = 1, max = 1_000_000_000))]
    max_downloads: Option<i64>,
}

/// A link.
#[derive(Serialize, ToSchema)]
#[schema(as = Link)]
pub(super) struct LinkBody {
    id: Uuid,
    /// The file.
    file_id: Uuid,
    expires_at: Moment,
    max_downloads: Option<i64>,
    /// How often the file was read by it.
    downloads: i64,
    revoked_at: Option<Moment>,
    created_at: Moment,
    /// Changes when it is revoked, and not with downloads.
    etag: String,
}

/// A new link, with what opens it.
#[derive(Serialize, ToSchema)]
#[schema(as = NewLink)]
pub(super) struct NewLinkBody {
    #[serde(flatten)]
    link: LinkBody,
    /// What opens it. It is shown once.
    token: String,
    /// The path with it, below the address of this server.
    #[schema(example = "/f/3q2-7w")]
    path: String,
}

impl From<LinkRow> for LinkBody {
    fn from(row: LinkRow) -> Self {
        Self {
            etag: etag(row.version()),
            id: row.id.uuid(),
            file_id: row.file_id.uuid(),
            expires_at: row.expires_at,
            max_downloads: row.max_downloads,
            downloads: row.downloads,
            revoked_at: row.revoked_at,
            created_at: row.created_at,
        }
    }
}

pub(super) fn declare(routes: &mut Routes) {
    routes
        .post("/{id}/links", create_link)
        .summary("Create a link to a file for anyone who has it")
        .secret_answer();
    routes
        .get("/{id}/links", list_links)
        .summary("The links of a file, without their tokens");
    routes
        .delete("/{id}/links/{link}", revoke_link)
        .summary("Revoke a link");
}

pub(crate) fn declare_public(routes: &mut Routes) {
    routes.no_store();
    routes
        .get("/{token}", open_link)
        .summary("Read a file by a link")
        .description(
            "A request that sends bytes counts as a download, unless it continues one that began within the last hour.",
        )
        .secret_path()
        .rate_limit(TRIES);
}

async fn create_link(
    who: Can<WriteLinks>,
    on: Use<Service>,
    id: Path<FileId>,
    post: Valid<LinkPost>,
    once: Idempotency,
) -> Result<Created<NewLinkBody>, FilesError> {
    // By a link its creator reads the file too.
    if !who.may::<Read>() {
        return Err(FilesError::Forbidden(Read::SPEC.name));
    }
    let LinkPost {
        expires_at,
        max_downloads,
    } = post.into_inner();
    let (terms, principal) = (
        Terms {
            expires_at,
            max_downloads,
        },
        (*who).clone(),
    );
    let db = on.db.tenant(&who.scope());
    let made = db.act("make link", async move |tx| {
        let made = rules::create(tx, &principal, *id, terms).await?;
        Ok(made.map(|(row, token)| {
            let location = format!("/api/v1/files/{}/links/{}", row.file_id, row.id);
            let path = format!("/f/{token}");
            let body = NewLinkBody {
                link: row.into(),
                token,
                path,
            };
            once.keep(tx, Created { location, body })
        }))
    });
    made.await
}

async fn list_links(
    who: Can<Read>,
    on: Use<Service>,
    id: Path<FileId>,
    paging: Paging,
) -> Result<Page<LinkBody>, FilesError> {
    let file = id.to_string();
    let bound = CursorScope {
        tenant: who.tenant,
        list: "file_links",
        sort: "",
        filter: &file,
    };
    let (window, db) = (paging.window(&bound)?, on.db.tenant(&who.scope()));
    let found = db.read("list links", async move |tx| {
        file_rules::find(tx, *id).await?;
        Ok::<_, FilesError>(rows!(window, |before, limit| store::page(
            tx, *id, before, limit
        ))?)
    });
    let found = found.await?.map(LinkBody::from);
    Ok(paging.page(&bound, found, |link| LinkId::from_uuid(link.id)))
}

async fn revoke_link(
    who: Can<WriteLinks>,
    on: Use<Service>,
    ids: Path<(FileId, LinkId)>,
    seen: IfMatch,
) -> Result<NoContent, FilesError> {
    let (file, link) = *ids;
    let db = on.db.tenant(&who.scope());
    let revoked = db.act("revoke link", async move |tx| {
        rules::revoke(tx, file, link, &seen).await
    });
    revoked.await?;
    Ok(NoContent)
}

async fn open_link(
    _: Public,
    on: Use<Service>,
    token: Path<String>,
    wanted: ContentRequest,
) -> Result<Content, FilesError> {
    let opened = on
        .system
        .read("open link", async move |c| rules::open(c, &token).await);
    let link = opened.await?;
    let (file, scope) = (
        link.file_id,
        TenantScope::system(link.tenant_id, "read a file by a link"),
    );
    let db = on.db.tenant(&scope);
    let found = db.read("find file to read", async move |tx| {
        file_rules::readable(tx, file).await
    });
    // That there is a file which is in the trash is nothing that a link says.
    let row = found.await.map_err(|error| match error {
        FilesError::NotFound | FilesError::State(_) => FilesError::LinkGone,
        error => error,
    })?;
    let part = part_of(&row, &wanted)?;
    let first = match &part {
        ContentPart::NotModified => None,
        _ if wanted.is_head() => None,
        ContentPart::Whole => Some(0),
        ContentPart::Range(range) => Some(range.start),
    };
    let counts = rules::counts(&link, first, Moment::now())?;
    // Opened before it counts: what the store cannot give is no download.
    let content = send(&on, &row, part, wanted.is_head()).await?;
    if counts {
        let counted = on.system.transaction("count download", async move |tx| {
            rules::count(tx, &link).await
        });
        counted.await?;
        metrics::downloaded_by_link();
    }
    Ok(content)
}
