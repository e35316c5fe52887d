//! The register: one signed statement of the newest checkpoints of all chains together, written with each signing. So a
//! chain that was signed cannot be deleted, set back or begun again: the register would need a new signature, and the
//! sealer does not sign while the chains do not match the last one.
//!
//! It is the JSON text `{"register": {…}, "signature": …}` in the row of the sealer. `chains` in it is SHA-256 over the
//! tenant (16 bytes), number (8 bytes, big-endian), length of the signature (8 bytes) and signature of each signed newest
//! checkpoint, in the order of the tenants. A database that is set back as a whole, with its register, fits; what was handed
//! out in the log shows that.

use diesel::{dsl::exists, prelude::*};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, TenantId, Tx, on, types::Moment};
use serde::{Deserialize, Serialize};

use super::{
    Hash, SYSTEM, SigningKeyId, SigningKeys,
    chain::to_hex,
    signing::{Signed, Signing},
    tables::{audit_chain, audit_checkpoint, audit_key, audit_sealer},
};

/// How often it is read again, if chains were signed meanwhile.
const TRIES: usize = 10;
/// Chains of one reading.
const AT_ONCE: i64 = 1000;

/// What is signed. Its JSON is in the canonical form of RFC 8785.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Statement {
    at: String,
    chains: Hash,
    /// Counted from 1.
    pub(super) index: i64,
    key: SigningKeyId,
    /// The place of the sealer, which never goes back.
    position: i64,
    xid: i64,
}

impl Statement {
    /// It consists of texts and numbers, so it can always be written.
    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    register: Statement,
    signature: String,
}

/// What the register is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Register {
    /// There is none, and nothing was ever signed.
    None,
    /// It is signed, and the chains fit it.
    Right(Statement),
    /// The key is not at hand, or chains are signed all the time.
    Unchecked,
    /// It is gone, or not signed by a key of the program, or the chains do not fit it.
    Wrong,
}

impl Register {
    /// Reads it, and compares it with the chains. For a scope of the system.
    pub(super) async fn load(c: &mut Connection, keys: &SigningKeys) -> Result<Self, DbError> {
        for _ in 0..TRIES {
            let (text, place) = read(c).await?;
            let chains = chains(c).await?;
            if read(c).await?.0 == text {
                return judge(c, keys, text, chains, place).await;
            }
        }
        Ok(Self::Unchecked)
    }

    /// Writes the next one, behind this. A caller has made sure that this is right, or that there is none.
    pub(super) async fn write(
        &self,
        tx: &mut Tx,
        signing: &Signing,
        at: Moment,
    ) -> Result<(), DbError> {
        let Some(key) = signing.key() else {
            return Ok(());
        };
        let index = match self {
            Self::Right(last) => last.index + 1,
            Self::None | Self::Unchecked | Self::Wrong => 1,
        };
        let (_, (xid, position)) = read(tx).await?;
        let register = Statement {
            at: at.to_string(),
            chains: chains(tx).await?.unwrap_or_default(),
            index,
            key,
            position,
            xid,
        };
        let signature = signing.sign(&register.text());
        let written = Written {
            register,
            signature: signature.as_deref().map(to_hex).unwrap_or_default(),
        };
        let text = serde_json::to_string(&written).unwrap_or_default();
        let update = diesel::update(audit_sealer::table.find(1));
        let update = update.set(audit_sealer::register.eq(text));
        on!(tx, |c| update.execute(c).await).map(drop)
    }
}

type Place = (i64, i64);

async fn read(c: &mut Connection) -> Result<(Option<String>, Place), DbError> {
    let query = audit_sealer::table.find(1).select((
        audit_sealer::register,
        (audit_sealer::xid, audit_sealer::position),
    ));
    on!(c, |c| query.first(c).await)
}

/// The hash of the newest checkpoints that are signed; `None` if there is none.
async fn chains(c: &mut Connection) -> Result<Option<Hash>, DbError> {
    let (mut bytes, mut after) = (Vec::new(), None);
    loop {
        let of_chain = audit_chain::tenant_id
            .eq(audit_checkpoint::tenant_id)
            .and(audit_chain::checked.eq(audit_checkpoint::number));
        // The nil id is the first, and that of the system.
        let is_next = audit_chain::tenant_id.gt(after.unwrap_or(SYSTEM));
        let is_first = audit_chain::tenant_id
            .eq(SYSTEM)
            .and(after.is_none().into_sql::<diesel::sql_types::Bool>());
        let query = audit_chain::table
            .inner_join(audit_checkpoint::table.on(of_chain))
            .filter(audit_checkpoint::signature.is_not_null())
            .filter(is_next.or(is_first))
            .order(audit_chain::tenant_id)
            .limit(AT_ONCE)
            .select((
                audit_chain::tenant_id,
                audit_chain::checked,
                audit_checkpoint::signature.assume_not_null(),
            ));
        let rows: Vec<(TenantId, i64, Vec<u8>)> = on!(c, |c| query.load(c).await)?;
        let Some((last, ..)) = rows.last() else { break };
        after = Some(*last);
        for (tenant, number, signature) in rows {
            bytes.extend_from_slice(tenant.uuid().as_bytes());
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes.extend_from_slice(&(signature.len() as u64).to_be_bytes());
            bytes.extend_from_slice(&signature);
        }
    }
    Ok((!bytes.is_empty()).then(|| Hash::of([&bytes[..]])))
}

async fn judge(
    c: &mut Connection,
    keys: &SigningKeys,
    text: Option<String>,
    chains: Option<Hash>,
    place: Place,
) -> Result<Register, DbError> {
    let Some(text) = text else {
        // A key is made with the first register, and all that it signs is in there.
        return Ok(match keys.is_empty() && chains.is_none() {
            true => Register::None,
            false => Register::Wrong,
        });
    };
    let Ok(Written {
        register,
        signature,
    }) = serde_json::from_str(&text)
    else {
        return Ok(Register::Wrong);
    };
    match keys.check_text(register.key, &register.text(), &signature) {
        Signed::Right => {}
        Signed::Unchecked => return Ok(Register::Unchecked),
        // The first key may have been made since the keys were loaded.
        Signed::Wrong | Signed::Unsigned => {
            let is_new = keys.is_empty() && is_key(c, register.key).await?;
            return Ok(match is_new {
                true => Register::Unchecked,
                false => Register::Wrong,
            });
        }
    }
    let fits = chains.unwrap_or_default() == register.chains;
    Ok(match fits && place >= (register.xid, register.position) {
        true => Register::Right(register),
        false => Register::Wrong,
    })
}

async fn is_key(c: &mut Connection, id: SigningKeyId) -> Result<bool, DbError> {
    let key = audit_key::table.find(id);
    on!(c, |c| diesel::select(exists(key)).get_result(c).await)
}
