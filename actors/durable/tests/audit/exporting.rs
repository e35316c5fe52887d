//! What is exported is verified without the database, by this program and by another.

use std::{path::Path, process::Command};

use dotmac_db::{Connection, DbError, TenantTx, types::Id};
use dotmac_durable::audit::{
    Acts as _, Audit as _, Entry, Export, ExportError, Fault, VerifiedExport, verify_export,
};

use crate::rig::{Rig, master, on_both, scope};

async fn export(rig: &Rig, which: (i64, Option<i64>)) -> String {
    let keys = rig.keys(Some(&master())).await;
    written(
        rig,
        Export::new(scope().tenant(), keys, Some(master()), which),
    )
    .await
}

/// An export by a program that lacks the master key, of entries that no checkpoint covers.
async fn unsigned_export(rig: &Rig) -> String {
    let keys = rig.keys(None).await;
    written(
        rig,
        Export::new(scope().tenant(), keys, None, (5, Some(210))),
    )
    .await
}

async fn written(rig: &Rig, mut export: Export) -> String {
    let mut text = String::new();
    loop {
        let next = async move |c: &mut Connection| {
            let piece = export.next(c).await?;
            Ok::<_, DbError>((export, piece))
        };
        let (further, piece) = rig.system().read("export", next).await.unwrap();
        export = further;
        let Some(piece) = piece else { return text };
        text += &piece;
    }
}

/// What the program in Python says of it.
fn by_python(text: &str, keys: &[String]) -> Result<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.ndjson");
    std::fs::write(&file, text).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/verify_audit.py");
    let ran = Command::new("python3")
        .arg(script)
        .arg(file)
        .args(keys)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().trim().to_owned();
    match ran.status.success() {
        true => Ok(text(ran.stdout)),
        false => Err(text(ran.stderr)),
    }
}

fn verified(text: &str, keys: &[String]) -> Result<VerifiedExport, ExportError> {
    verify_export(text.as_bytes(), keys)
}

/// That both say the same of it.
fn agreed(text: &str) -> VerifiedExport {
    let found = verified(text, &[]).unwrap();
    let signed = found.signed.map_or("None".to_owned(), |it| it.to_string());
    let expected = format!("{} {} {} {signed}", found.first, found.last, found.hash);
    assert_eq!(by_python(text, &[]), Ok(expected));
    found
}

#[actix::test]
async fn two_programs_agree_on_an_export_and_on_one_that_was_changed() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let unusual = async |tx: &mut TenantTx| {
            let entry = Entry::new("number_add", "test.number", "é\u{1}\u{7f}\"\\\n\u{2028}😀");
            let fields = [("name", "Ada Ünïcode")];
            let entry = entry.personal(&master(), Id::from_uuid(uuid::Uuid::max()), fields);
            Ok::<_, DbError>(tx.audit(entry.detail("b", "x").detail("a", "y"))?.of(()))
        };
        rig.db.tenant(&scope()).act("act", unusual).await.unwrap();
        rig.act(&scope(), 0..3).await;
        rig.seal().await;
        rig.act(&scope(), 3..250).await;
        rig.seal().await;
        let whole = export(&rig, (1, None)).await;
        let found = agreed(&whole);
        assert_eq!((found.first, found.last, found.signed), (1, 251, Some(4)));
        let online = rig.verified(scope().tenant()).await;
        assert_eq!((online.last, online.hash), (found.last, found.hash));
        assert!(
            whole.contains(r#""personal":{"name":"Ada Ünïcode"}"#),
            "{whole}"
        );
        assert_eq!(whole.lines().count(), 1 + 251 + 1 + 1);
        for (which, first, last, signed) in [
            ((3, None), 3, 251, Some(4)),
            ((5, Some(210)), 5, 210, None),
            ((250, Some(900)), 250, 251, None),
            ((900, None), 252, 251, None),
        ] {
            let found = agreed(&export(&rig, which).await);
            assert_eq!(
                (found.first, found.last, found.signed),
                (first, last, signed)
            );
        }

        // Of the keys that are given only.
        assert_eq!(verified(&whole, &found.keys).unwrap(), found);
        let other = ["00".repeat(32)];
        let refused = verified(&whole, &other).unwrap_err();
        assert!(
            matches!(
                refused,
                ExportError::Broken {
                    fault: Fault::Signature,
                    ..
                }
            ),
            "{refused}"
        );
        assert!(by_python(&whole, &other).is_err());

        // Of entries that no checkpoint covers, and without a key.
        let part = export(&rig, (5, Some(210))).await;
        let signed = verified(&part, &found.keys).unwrap();
        assert_eq!(
            (signed.signed, signed.file_key.as_ref()),
            (None, found.keys.first())
        );
        let unsigned = unsigned_export(&rig).await;
        assert_eq!(agreed(&unsigned).file_key, None);
        let refused = verified(&unsigned, &found.keys).unwrap_err();
        assert!(matches!(refused, ExportError::Unsigned { .. }), "{refused}");
        assert!(by_python(&unsigned, &found.keys).is_err());

        // Each change shows, in each line that counts.
        // It is signed as a whole: decrypted fields, first line and last line too, and nothing is behind it.
        assert_eq!(found.file_key.as_ref(), found.keys.first());
        let more = whole.clone() + "{}\n";
        assert!(by_python(&more, &[]).is_err() && verified(&more, &[]).is_err());
        let lines: Vec<_> = whole.lines().collect();
        let signature = lines[5]
            .replace("\"signature\":\"", "\"signature\":\"0")
            .replacen("0\"}", "\"}", 1);
        let edited = |index: usize, line: Option<String>| {
            let mut lines: Vec<_> = lines.iter().map(|it| (*it).to_owned()).collect();
            match line {
                Some(line) => lines[index] = line,
                None => drop(lines.remove(index)),
            }
            lines.join("\n") + "\n"
        };
        for (what, text) in [
            (
                "an actor",
                edited(2, Some(lines[2].replace("system:test", "system:tesu"))),
            ),
            (
                "a detail",
                edited(3, Some(lines[3].replace("Buy milk", "Buy silk"))),
            ),
            (
                "a ciphertext",
                edited(
                    1,
                    Some(lines[1].replace("\"personal\":\"", "\"personal\":\"00")),
                ),
            ),
            ("an entry", edited(3, None)),
            ("the last entry", edited(lines.len() - 2, None)),
            ("the end", edited(lines.len() - 1, None)),
            (
                "the checkpoint's time",
                edited(5, Some(lines[5].replace("\"at\":\"2", "\"at\":\"3"))),
            ),
            ("the signature", edited(5, Some(signature))),
            (
                "the key",
                edited(0, Some(lines[0].replace(&found.keys[0], &other[0]))),
            ),
            ("the beginning", edited(0, None)),
            (
                "a decrypted field",
                edited(1, Some(lines[1].replace("Ada Ünïcode", "Eva Ünïcode"))),
            ),
            (
                "another key",
                edited(
                    0,
                    Some(lines[0].replace(
                        "\"keys\":{",
                        &format!("\"keys\":{{\"{}\":\"{}\",", uuid::Uuid::max(), other[0]),
                    )),
                ),
            ),
            (
                "the last line",
                edited(
                    lines.len() - 1,
                    Some(
                        lines[lines.len() - 1]
                            .replace("}}", "},\"more\":1}")
                            .replacen("\"signature\":\"", "\"more\":1,\"signature\":\"", 1),
                    ),
                ),
            ),
        ] {
            assert_ne!(text, whole, "{what}");
            assert!(verified(&text, &[]).is_err(), "{what}");
            assert!(by_python(&text, &[]).is_err(), "{what}");
        }
        rig.supervisor.halt().await;
    })
    .await;
}
