//! `dotmac audit …`: what an operator can ask and do without the daemon; an export is verified without the database.

use std::{
    error::Error,
    fs::File,
    io::{self, BufReader, Write},
    path::{Path, PathBuf},
};

use dotmac_platform::{
    Exit,
    audit::{
        Acts as _, AuditCatalogue, LinkedEntry, PublicKey, SubjectId, Verification, Verified,
        chains, erase, follow, verify_export,
    },
    db::{Db, ModuleDb, TenantId, TenantScope, TenantTx, types::Id},
    module::{CommandContext, ModuleCommand},
    routing::InvalidRequest,
    sealing::Sealer,
};
use futures_util::TryStreamExt as _;
use uuid::Uuid;

use crate::{
    AuditLogError,
    bodies::{Asked, CheckpointBody, EntryBody},
    routes, rules,
};

/// Entries of one reading.
const AT_ONCE: u16 = 200;

/// The audit log, its chain and its checkpoints.
#[derive(clap::Parser)]
pub(crate) enum AuditCommand {
    /// The acts that the modules of this program record.
    Actions,
    /// Print a tenant's entries as JSON, one on a line, oldest first. Recorded in the log.
    List(List),
    /// Print a tenant's checkpoints as JSON, one on a line, newest first.
    Checkpoints {
        /// The tenant.
        #[arg(long)]
        tenant: Uuid,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u16,
    },
    /// Print the public keys that checkpoints are signed with, each with its id.
    Keys,
    /// Verify the chains in the database, or an export.
    Verify {
        /// A file with an export, which is verified without the database; `-` for standard input.
        file: Option<PathBuf>,
        /// The chain of this tenant alone; all of them without it.
        #[arg(long, conflicts_with = "file")]
        tenant: Option<Uuid>,
        /// For an export: only signatures by this public key count, and the file must have one; may be given more than once.
        #[arg(long = "key", requires = "file")]
        keys: Vec<PublicKey>,
    },
    /// Export a tenant's log: lines of JSON that can be verified elsewhere. Recorded in the log.
    Export(ExportTo),
    /// Erase the key of the personal fields about a person of a tenant, so that they can no longer be read. Recorded in
    /// the log.
    Erase {
        /// The tenant.
        #[arg(long)]
        tenant: Uuid,
        /// The id of the person.
        subject: SubjectId,
    },
}

/// Which entries, and how many.
#[derive(clap::Args)]
pub(crate) struct List {
    /// The tenant; the nil id for the system.
    #[arg(long)]
    tenant: Uuid,
    /// By this actor, as `user:0192…`.
    #[arg(long)]
    actor: Option<String>,
    /// Of this name, as `note_delete`.
    #[arg(long)]
    action: Option<String>,
    /// Upon resources of this type, as `notes.note`, or upon one, as `notes.note/0192…`.
    #[arg(long)]
    resource: Option<String>,
    /// At or after this moment, as 2026-11-28T12:00:00Z.
    #[arg(long)]
    from: Option<String>,
    /// At or before this moment.
    #[arg(long)]
    to: Option<String>,
    /// That came out so: `success`, `failure` or `denied`.
    #[arg(long)]
    outcome: Option<String>,
    /// At most so many.
    #[arg(long)]
    limit: Option<usize>,
}

/// Which part of the log, and where to.
#[derive(clap::Args)]
pub(crate) struct ExportTo {
    /// The file, which must not exist; standard output without it.
    file: Option<PathBuf>,
    /// The tenant; the nil id for the system.
    #[arg(long)]
    tenant: Uuid,
    /// From the first entry at or after this moment, as 2026-11-28T12:00:00Z.
    #[arg(long)]
    from: Option<String>,
    /// To the last entry at or before this moment.
    #[arg(long)]
    to: Option<String>,
}

impl ModuleCommand for AuditCommand {
    async fn run(self, on: CommandContext) -> Result<(), Exit> {
        match self {
            Self::Actions => print_acts(&on.acts()?),
            Self::List(which) => {
                let (db, sealer) = opened(&on).await?;
                let listed = list(&db, sealer, which).await;
                listed.map_err(|error| on.failed(error))?;
            }
            Self::Checkpoints { tenant, limit } => {
                let (db, sealer) = opened(&on).await?;
                let printed = print_checkpoints(&db, sealer, Id::from_uuid(tenant), limit).await;
                printed.map_err(|error| on.failed(error))?;
            }
            Self::Keys => {
                let (db, sealer) = opened(&on).await?;
                let db = db.system("show signing keys to an operator");
                let keys = db.read("load signing keys", async move |c| {
                    rules::keys(c, sealer).await
                });
                for (id, key) in keys.await.map_err(|error| on.failed(error))?.public() {
                    println!("{key}  {id}");
                }
            }
            Self::Verify {
                file: Some(file),
                keys,
                ..
            } => verify_file(&file, &keys)?,
            Self::Verify { tenant, .. } => {
                let (db, sealer) = opened(&on).await?;
                let db = db.system("audit chains are verified for an operator");
                let verified = verify(&db, sealer, tenant.map(Id::from_uuid)).await;
                if !verified.map_err(|error| on.failed(error))? {
                    return Err(Exit::Failure);
                }
            }
            Self::Export(to) => export(&on, to).await?,
            Self::Erase { tenant, subject } => {
                let (db, _) = opened(&on).await?;
                let scope = scope(tenant, "erase personal fields for an operator");
                let db = db.tenant(&scope);
                let erase = async move |tx: &mut TenantTx| erase(tx, subject).await;
                let erased = db.act("erase personal fields", erase).await;
                match erased.map_err(|error| on.failed(error))? {
                    true => println!("the key of the personal fields about {subject} is erased"),
                    false => println!("there is no key of personal fields about {subject}"),
                }
            }
        }
        Ok(())
    }
}

async fn opened(on: &CommandContext) -> Result<(ModuleDb, Option<Sealer>), Exit> {
    Ok((on.db().await?, on.sealer().await?))
}

fn scope(tenant: Uuid, why: &'static str) -> TenantScope {
    TenantScope::system(Id::from_uuid(tenant), why)
}

fn print_acts(catalogue: &AuditCatalogue) {
    for (module, act) in catalogue.acts() {
        println!("{}  ({module})  {}", act.name(), act.description());
    }
}

async fn list(db: &ModuleDb, sealer: Option<Sealer>, which: List) -> Result<(), AuditLogError> {
    let filter = rules::filter(&Asked {
        actor: which.actor,
        action: which.action,
        resource: which.resource,
        from: which.from,
        to: which.to,
        outcome: which.outcome,
    })?;
    let scope = scope(which.tenant, "show audit entries to an operator");
    let (db, mut after) = (db.tenant(&scope), 0);
    let mut left = which.limit.unwrap_or(usize::MAX);
    while left > 0 {
        let limit = u16::try_from(left).unwrap_or(AT_ONCE).min(AT_ONCE);
        let (filter, sealer) = (filter.clone(), sealer.clone());
        let read_as = rules::read_entry("audit.events", "", &filter);
        let page = db.read("list audit entries", async move |tx| {
            let tenant = tx.tenant();
            follow(tx, tenant, &filter, after, limit, sealer.as_ref()).await
        });
        let page: Vec<LinkedEntry> = page.await.map_err(AuditLogError::Db)?;
        // With the first page, for all.
        if after == 0 && !page.is_empty() {
            routes::record(&db, read_as).await?;
        }
        let is_last = page.len() < usize::from(limit);
        left -= page.len();
        after = page.last().map_or(after, |it| it.number);
        let lines = page.into_iter().map(EntryBody::from);
        let lines = lines.map(|it| serde_json::to_string(&it).unwrap_or_default());
        if !print(lines) || is_last {
            break;
        }
    }
    Ok(())
}

async fn print_checkpoints(
    db: &ModuleDb,
    sealer: Option<Sealer>,
    tenant: TenantId,
    limit: u16,
) -> Result<(), AuditLogError> {
    let scope = TenantScope::system(tenant, "show checkpoints to an operator");
    let found = db.tenant(&scope).read("list checkpoints", async move |tx| {
        rules::page_of_checkpoints(tx, i64::MAX, limit, sealer.as_ref()).await
    });
    let (found, keys) = found.await?;
    let bodies = found.into_iter().map(|it| CheckpointBody::new(it, &keys));
    print(bodies.map(|it| serde_json::to_string(&it).unwrap_or_default()));
    Ok(())
}

/// Prints lines, until a reader that has left (`| head`) wants no more.
fn print(lines: impl Iterator<Item = String>) -> bool {
    let mut out = io::stdout().lock();
    let mut lines = lines;
    lines.all(|line| writeln!(out, "{line}").is_ok())
}

/// Verifies one chain or all of them, and says what it found; whether all is right.
async fn verify(
    db: &Db,
    sealer: Option<Sealer>,
    tenant: Option<TenantId>,
) -> Result<bool, AuditLogError> {
    let keys = db.read("load signing keys", async move |c| {
        rules::keys(c, sealer).await
    });
    let keys = keys.await?;
    let (mut is_right, mut after) = (true, None);
    loop {
        let tenants = match tenant {
            Some(tenant) => vec![tenant],
            None => chains(db, after).await?,
        };
        after = tenants.last().copied();
        for tenant in &tenants {
            let verification = Verification::new(*tenant, keys.clone());
            let found = verification.run(db, || {}).await?;
            is_right &= found.broken.is_none();
            // Every database has a chain of the system, which mostly has no entries.
            let is_empty = found.broken.is_none() && found.last < found.first;
            if !is_empty || tenants.len() == 1 {
                println!("tenant {tenant}: {}", sentence(&found));
            }
        }
        if tenant.is_some() || tenants.is_empty() {
            return Ok(is_right);
        }
    }
}

fn sentence(found: &Verified) -> String {
    let right = match found.last < found.first {
        true => "no entries".to_owned(),
        false => format!(
            "entries {} to {} are valid, {}",
            found.first,
            found.last,
            signed(found.signed, found.is_unchecked)
        ),
    };
    match &found.broken {
        None => right,
        Some(broken) => {
            let entry = broken.entry.map(|id| format!(" (entry {id})"));
            format!("{broken}{}; before it: {right}", entry.unwrap_or_default())
        }
    }
}

fn signed(signed: Option<i64>, is_unchecked: bool) -> String {
    match (signed, is_unchecked) {
        (_, true) => {
            "with signatures that cannot be checked without DOTMAC_APP_MASTER_KEY".to_owned()
        }
        (Some(number), false) => format!("signed up to {number}"),
        (None, false) => "none of them signed".to_owned(),
    }
}

fn verify_file(file: &Path, keys: &[PublicKey]) -> Result<(), Exit> {
    let read = || -> Result<_, Box<dyn Error>> {
        Ok(match file == Path::new("-") {
            true => verify_export(io::stdin().lock(), keys)?,
            false => verify_export(BufReader::new(File::open(file)?), keys)?,
        })
    };
    let found = read().map_err(|error| refused(file, &*error))?;
    let entries = match found.last < found.first {
        true => "no entries".to_owned(),
        false => format!(
            "entries {} to {} are valid, {}",
            found.first,
            found.last,
            signed(found.signed, false)
        ),
    };
    println!("tenant {}: {entries}", found.tenant);
    for key in &found.keys {
        println!("signed with the public key {key}");
    }
    match &found.file_key {
        Some(key) if found.keys.contains(key) => println!("the file as a whole is signed with it"),
        Some(key) => println!("the file as a whole is signed with the public key {key}"),
        None => println!(
            "the file as a whole is not signed, so its decrypted fields may have been changed"
        ),
    }
    Ok(())
}

/// Reports what is wrong with a file, with its cause.
fn refused(file: &Path, error: &(dyn Error + 'static)) -> Exit {
    let cause = error.source().map(|cause| format!(": {cause}"));
    eprintln!("{}: {error}{}", file.display(), cause.unwrap_or_default());
    Exit::Failure
}

async fn export(on: &CommandContext, to: ExportTo) -> Result<(), Exit> {
    let between = rules::between(to.from.as_deref(), to.to.as_deref());
    let between = between.map_err(|(name, right)| {
        on.failed(AuditLogError::from(InvalidRequest::query(name, right)))
    })?;
    let (db, sealer) = opened(on).await?;
    let scope = scope(to.tenant, "export the audit log for an operator");
    let of_tenant = db.tenant(&scope);
    let begun = of_tenant.act("export audit log", async move |tx| {
        rules::export(tx, between, sealer).await
    });
    let begun = begun.await.map_err(|error| on.failed(error))?;
    let mut out: Box<dyn Write> = match &to.file {
        None => Box::new(io::stdout()),
        Some(file) => Box::new(File::create_new(file).map_err(|error| refused(file, &error))?),
    };
    let pieces = routes::pieces(db.system("export the audit log for an operator"), begun);
    let mut pieces = std::pin::pin!(pieces);
    let name = to.file.unwrap_or_else(|| PathBuf::from("standard output"));
    while let Some(piece) = pieces.try_next().await.map_err(|error| on.failed(error))? {
        let written = out.write_all(piece.as_bytes());
        written.map_err(|error| refused(&name, &error))?;
    }
    out.flush().map_err(|error| refused(&name, &error))
}
