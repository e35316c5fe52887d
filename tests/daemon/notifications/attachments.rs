//! Files of the tenant that mails have attached to them.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use reqwest::Method;

use super::*;
use crate::{
    events::{answer, instances},
    support::{fakes::FakeSilentServer, repository},
};

const FILES: &str = "/api/v1/files";

/// A program that keeps files in `directory`, and hands mail to a relay.
fn attaching(url: &str, port: u16, directory: &Path) -> Builder {
    mailing(url, port).env("DOTMAC_FILES_PATH", directory.display())
}

impl Client<'_> {
    /// Uploads a file; its id.
    async fn upload(&self, name: &str, bytes: &[u8]) -> String {
        let path = format!("{FILES}/content?name={name}");
        let request = self.request(Method::PUT, &path).body(bytes.to_vec());
        let (status, file) = answer(request).await;
        assert_eq!(status, 201, "{file}");
        file["id"].as_str().unwrap().to_owned()
    }

    async fn delete_file(&self, id: &str) {
        let request = self.request(Method::DELETE, &format!("{FILES}/{id}"));
        let deleted = answer(request.header("if-match", "*")).await;
        assert!(matches!(deleted.0, 200 | 204), "{deleted:?}");
    }
}

fn with_files(address: &str, files: &[&str]) -> Value {
    let mut mail = mail_to(address);
    mail["attachments"] = files.iter().map(|it| json!({ "file": it })).collect();
    mail
}

/// The files of a mail, as Python's own library reads them: name, media type, bytes.
fn files_of(mail: &str) -> Vec<(String, String, Vec<u8>)> {
    let program = "import base64, email, email.policy, json, sys\n\
        mail = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)\n\
        body = mail.get_body(('html',)).get_content(), mail.get_body(('plain',)).get_content()\n\
        assert all(body), body\n\
        found = [(it.get_filename(), it.get_content_type(), base64.b64encode(it.get_payload(decode=True)).decode())\n\
                 for it in mail.iter_attachments()]\n\
        print(json.dumps(found))\n";
    let mut running = Command::new(repository().join("target/tools/smtp/bin/python"))
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = running.stdin.take().unwrap();
    input.write_all(mail.as_bytes()).unwrap();
    drop(input);
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{mail}");
    let found: Vec<(String, String, String)> = serde_json::from_slice(&output.stdout).unwrap();
    let decoded = found
        .into_iter()
        .map(|(name, kind, bytes)| (name, kind, BASE64.decode(bytes).unwrap()));
    decoded.collect()
}

#[tokio::test]
async fn the_bytes_of_a_file_arrive_as_they_are_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let (relay, kept) = (Smtp::start().await, tempfile::tempdir().unwrap());
        let start = || attaching(&url, relay.port, kept.path());
        let daemons = instances(start, &url).await;
        let (one, last) = (
            client(&daemons[0], ONE),
            client(daemons.last().unwrap(), ONE),
        );
        // Every byte there is, what ends a mail among them.
        let mut bytes: Vec<u8> = (0..=255).collect();
        bytes.extend(b"\r\n.\r\nQUIT\r\n.leading dot\nbare\rends");
        let bytes = bytes.repeat(5000);
        let raw = one.upload("all.bin", &bytes).await;
        let text = "Grüße\n.\nohne CR\n".as_bytes();
        let note = one.upload("%C3%9Cbersicht%20%22a%22.txt", text).await;
        let empty = one.upload("empty", b"").await;
        let sent = last
            .send(with_files("ann@example.com", &[&raw, &note, &empty]))
            .await;
        let path = delivery(&sent);
        last.until_delivery(&path, "accepted").await;
        let shown = one
            .get(&format!("{NOTIFICATIONS}/{}", sent["id"].as_str().unwrap()))
            .await;
        assert_eq!(shown.1["attachments"], json!([raw, note, empty]));
        let taken = relay.until_taken(1).await;
        let found = files_of(&taken[0].content);
        let names: Vec<_> = found.iter().map(|it| &*it.0).collect();
        assert_eq!(names, ["all.bin", "Übersicht _a_.txt", "empty"]);
        assert_eq!(found[0].1, "application/octet-stream");
        assert!(found[1].1.starts_with("text/plain"), "{}", found[1].1);
        assert!(found[0].2 == bytes, "the bytes are others");
        assert_eq!((&*found[1].2, found[2].2.len()), (text, 0));

        // It is read when it is sent: what is gone by then is why its mail fails, and no other's.
        let gone = one.upload("gone.bin", b"soon").await;
        let mut later = with_files("bob@example.com", &[&gone]);
        later["send_at"] = in_seconds(2).into();
        let waiting = delivery(&one.send(later).await);
        one.delete_file(&gone).await;
        let failed = one.until_delivery(&waiting, "failed").await;
        assert_eq!(
            (&failed["reason"], &failed["answer"]),
            (
                &json!("attachment_gone"),
                &json!(format!("the file {gone} is not there any more"))
            ),
            "{failed}"
        );
        let path = one.mail("eve@example.com").await;
        one.until_delivery(&path, "accepted").await;
        assert_eq!(relay.until_taken(2).await.len(), 2);
        drop(daemons);
    }
}

#[tokio::test]
async fn files_that_cannot_be_sent_are_refused_each_with_its_reason() {
    let (relay, kept) = (Smtp::start().await, tempfile::tempdir().unwrap());
    let daemon = attaching("sqlite:dotmac.db", relay.port, kept.path())
        .env("DOTMAC_NOTIFICATIONS_MAX_ATTACHMENTS", 3)
        .env("DOTMAC_NOTIFICATIONS_MAX_ATTACHMENT_SIZE", "4KiB")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let (one, other) = (client(&daemon, ONE), client(&daemon, OTHER));
    let mine = one.upload("mine.bin", &[1; 3000]).await;
    let large = one.upload("large.bin", &[2; 3000]).await;
    let theirs = other.upload("theirs.bin", b"a secret").await;
    let trashed = one.upload("trashed.bin", b"old").await;
    one.delete_file(&trashed).await;
    let nobodys = "01935c4e-8a00-7000-8000-000000000001";

    // Another tenant's file is as one that is not there.
    let refused = one
        .post(
            NOTIFICATIONS,
            with_files("ann@example.com", &[&theirs, nobodys, &trashed]),
        )
        .await;
    assert_eq!(
        problem(&refused),
        (422, "validation", "attachments[0].file")
    );
    let errors = refused.1["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 3, "{refused:?}");
    for error in errors {
        assert_eq!(
            (&error["code"], &error["message"]),
            (&json!("unknown_file"), &json!("is no file of the tenant"))
        );
    }
    let inbox = json!({
        "to": [{ "user": ONE }], "channels": ["in_app"], "content": { "title": "a", "body": "b" },
        "attachments": [{ "file": mine }],
    });
    let mut digest = with_files("ann@example.com", &[&mine]);
    digest["category"] = "news".into();
    digest["digest"] = json!({ "key": "a", "window": "1m" });
    for (body, field, code) in [
        (
            with_files("ann@example.com", &[&mine, &large]),
            "attachments",
            "too_large",
        ),
        (
            with_files("ann@example.com", &[mine.as_str(); 4]),
            "attachments",
            "too_many",
        ),
        (
            with_files("ann@example.com", &[&mine, &mine]),
            "attachments[1].file",
            "duplicate",
        ),
        (inbox, "attachments", "channel"),
        (digest, "attachments", "digest"),
    ] {
        let refused = one.post(NOTIFICATIONS, body).await;
        assert_eq!(problem(&refused), (422, "validation", field), "{refused:?}");
        assert_eq!(refused.1["errors"][0]["code"], code, "{refused:?}");
    }
    let blind = client(&daemon, "00000000-0000-0000-0000-000000000001!files.*");
    let refused = blind
        .post(NOTIFICATIONS, with_files("ann@example.com", &[&mine]))
        .await;
    assert_eq!(problem(&refused), (403, "forbidden", "permission"));
    for (attachments, code) in [
        (json!([{ "file": "../../etc/passwd" }]), "invalid_body"),
        (json!([{ "path": "/etc/passwd" }]), "invalid_body"),
        (json!(vec![json!({ "file": mine }); 101]), "validation"),
    ] {
        let mut mail = mail_to("ann@example.com");
        mail["attachments"] = attachments;
        let refused = one.post(NOTIFICATIONS, mail).await;
        assert_eq!(problem(&refused).1, code, "{refused:?}");
    }
    assert_eq!(one.get(DELIVERIES).await.1["items"], json!([]));
    let path = delivery(&one.send(with_files("ann@example.com", &[&mine])).await);
    one.until_delivery(&path, "accepted").await;

    // Bytes that are not those that were uploaded are sent to nobody.
    let stored = walk(kept.path());
    let damaged = stored
        .iter()
        .find(|it| fs::read(it).unwrap() == [1; 3000])
        .unwrap();
    fs::write(damaged, [3; 3000]).unwrap();
    let path = delivery(&one.send(with_files("bob@example.com", &[&mine])).await);
    let failed = one.until_delivery(&path, "failed").await;
    assert_eq!(failed["reason"], "attachment_damaged", "{failed}");
    assert_eq!(relay.taken().len(), 1);
}

/// All files below a directory.
fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path),
        }
    }
    found
}

#[tokio::test]
async fn a_file_that_was_not_scanned_yet_is_not_sent() {
    let (relay, kept, clamd) = (
        Smtp::start().await,
        tempfile::tempdir().unwrap(),
        FakeSilentServer::start(),
    );
    let daemon = attaching("sqlite:dotmac.db", relay.port, kept.path())
        .env(
            "DOTMAC_FILES_CLAMD",
            format!("tcp://127.0.0.1:{}", clamd.port),
        )
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let file = one.upload("a.bin", b"not known to be harmless").await;
    let refused = one
        .post(NOTIFICATIONS, with_files("ann@example.com", &[&file]))
        .await;
    assert_eq!(
        problem(&refused),
        (422, "validation", "attachments[0].file")
    );
    assert_eq!(
        refused.1["errors"][0]["message"],
        "is `scanning`; only a file that is `ready` can be sent"
    );
    assert_eq!(refused.1["errors"][0]["code"], "not_ready");
}
