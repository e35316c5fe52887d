//! Checkpoints are handed out to a file as well.

use dotmac_db::TenantTx;
use dotmac_durable::audit::{Checkpoint, archiving_sealer, checkpoints};
use dotmac_supervision::Board;

use crate::{
    rig::{Rig, master, on_both, scope},
    support::eventually,
};

fn reason(board: &Board) -> Option<String> {
    let found = board.component("sealer").and_then(|it| it.reason);
    found.map(|it| it.as_str().to_owned())
}

#[actix::test]
async fn checkpoints_are_appended_to_a_file_and_wait_while_it_cannot_be_written() {
    on_both(async |target| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("disk/checkpoints");
        let archive = Some(file.clone());
        let rig = Rig::start(&target, move |db| {
            vec![archiving_sealer("sealer", db, Some(master()), archive)]
        })
        .await;
        rig.act(&scope(), 0..3).await;
        rig.until(|board| reason(board).as_deref() == Some("audit_not_archived"))
            .await;
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        rig.until(|board| reason(board).is_none()).await;
        let text = eventually("the file", || async { std::fs::read_to_string(&file).ok() }).await;
        let handed_out: Vec<Checkpoint> = text
            .lines()
            // A failed write may have left a part of a line, so an empty one may follow.
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let list = async |tx: &mut TenantTx| checkpoints(tx, i64::MAX, 10).await;
        let kept = rig.db.tenant(&scope()).read("list", list).await.unwrap();
        assert_eq!(kept.len(), 1);
        assert!(handed_out.contains(&kept[0]), "{text}");
        assert!(handed_out[0].signature.is_some());
        assert!(text.ends_with('\n'));
        rig.supervisor.halt().await;
    })
    .await;
}

/// The first checkpoint of a chain is made at once; the next one is due after 5 minutes, or after so many links.
#[actix::test]
async fn a_chain_has_a_checkpoint_after_a_thousand_links_and_none_before() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let numbers = async || {
            let list = async |tx: &mut TenantTx| checkpoints(tx, i64::MAX, 10).await;
            let made = rig.db.tenant(&scope()).read("list", list).await.unwrap();
            made.iter().map(Checkpoint::number).collect::<Vec<_>>()
        };
        for (entries, expected) in [
            (0..1, &[1][..]),
            (1..1000, &[1]),
            (1000..1001, &[1001, 1]),
            (1001..2000, &[1001, 1]),
        ] {
            let count = (entries.end - entries.start) as usize;
            rig.enter(&scope(), entries).await;
            assert_eq!(rig.seal().await, count);
            assert_eq!(numbers().await, expected);
        }
        rig.supervisor.halt().await;
    })
    .await;
}
