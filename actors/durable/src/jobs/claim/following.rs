//! Claiming on where the last claims ended, while a look through all queues takes long.

use std::time::Instant;

use dotmac_db::{DbError, Tx};

use super::{
    Found, Room, Round, claim_again,
    known::{Arrivals, Known},
    look,
};

/// Claims on where the last claims ended.
pub(super) async fn claim_on(
    tx: &mut Tx,
    round: &Round,
    rooms: &[Room],
    mut before: Known,
) -> Result<Found, DbError> {
    if !follow(tx, rooms, &mut before).await? {
        return claim_again(tx, round, rooms, Known::default()).await;
    }
    let mut found = Found::default();
    let mut places: Vec<_> = std::mem::take(&mut before.places).into_iter().collect();
    // In the order of [`look::ready`].
    places.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (which, places) in places {
        let Some(room) = rooms.iter().find(|room| room.spec.kind == which.0) else {
            continue;
        };
        if places.is_empty() {
            continue;
        }
        let most = round.most(tx, room, &which.1, &mut found).await?;
        if most == 0 {
            found.known.places.insert(which, places);
            continue;
        }
        round
            .take(tx, room, which.1, (places, most), &mut found)
            .await?;
    }
    found.known.turns = before.turns;
    found.known.looked = before.looked;
    found.known.arrivals = before.arrivals;
    Ok(found)
}

/// Notes which jobs have become ready since that was asked last. False if the database has given out lower numbers of
/// transactions since: another server has taken over, and nothing is known of it.
async fn follow(tx: &mut Tx, rooms: &[Room], known: &mut Known) -> Result<bool, DbError> {
    let Some(arrivals) = known.arrivals.filter(Arrivals::is_due) else {
        return Ok(true);
    };
    let began = Instant::now();
    let arrived = look::arrived(tx, arrivals.floor).await?;
    if arrived.open < arrivals.floor {
        return Ok(false);
    }
    for (kind, queue, place) in arrived.firsts {
        if let Some(room) = rooms.iter().find(|room| room.spec.kind == kind) {
            known.arrive((room.spec.kind, queue), place);
        }
    }
    known.arrivals = Some(Arrivals::new(arrived.open, began.elapsed()));
    Ok(true)
}
