//! Receivers as the guide has them, with the standard's own libraries: docs/services/webhooks-receiving.md.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::json;

use super::{client, receiver, until_asked, webhooks};
use crate::{
    events::ONE,
    support::{eventually, free_port, process::Process, repository},
};

/// A receiver: the file of the guide, and its interpreter.
fn receivers() -> [(&'static str, Command); 2] {
    let tools = repository().join("target/tools/receivers");
    let python = Command::new(tools.join("venv/bin/python"));
    let mut node = Command::new("node");
    node.env("NODE_PATH", tools.join("node_modules"));
    [("receiver.py", python), ("receiver.cjs", node)]
}

#[test]
fn the_guide_has_the_receivers_as_they_are_run() {
    let page =
        fs::read_to_string(repository().join("docs/services/webhooks-receiving.md")).unwrap();
    for (file, _) in receivers() {
        let code = fs::read_to_string(repository().join("examples/receivers").join(file)).unwrap();
        assert!(
            page.contains(&format!("\n{code}```\n")),
            "{file} is not in the guide"
        );
    }
}

#[tokio::test]
async fn the_libraries_of_the_standard_accept_ours_and_refuse_others() {
    let daemon = webhooks("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    for (file, mut command) in receivers() {
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}/hooks");
        let webhook = one.webhook(&url, &["custom.*"]).await;
        let path = repository().join("examples/receivers").join(file);
        command.arg(path).arg(port.to_string());
        let secret = webhook["secret"].as_str().unwrap();
        let running = Process::spawn(command.env("WEBHOOK_SECRET", secret));
        // It refuses requests of other senders, once it listens.
        let forged = eventually(file, || async {
            let request = daemon.client.post(&url).body("{}");
            let request = request
                .header("webhook-id", "a")
                .header("webhook-timestamp", chrono::Utc::now().timestamp())
                .header(
                    "webhook-signature",
                    "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
                );
            Some(request.send().await.ok()?.status())
        })
        .await;
        assert_eq!(forged, 401, "{file}");

        one.event(
            "custom.order.paid.v1",
            json!({ "text": "äöü \"quoted\" \u{1f600}" }),
        )
        .await;
        let delivered = one.until_deliveries(&webhook, "delivered", 1).await;
        // With two secrets, of which it knows the former one; and the same message again.
        one.act(&webhook, "/rotate", json!({ "overlap": "1h" }))
            .await;
        let id = delivered[0]["id"].as_str().unwrap();
        one.post(&format!("{}/{id}/replay", super::DELIVERIES), json!({}))
            .await;
        one.event("custom.order.sent.v1", json!(7)).await;
        one.until_deliveries(&webhook, "delivered", 2).await;
        eventually("the replay to be an attempt", || async {
            let detail = one.detail(&delivered[0]).await;
            let attempts = detail["attempts"].as_array()?.clone();
            let is_right = attempts.len() == 2 && attempts.iter().all(|it| it["status"] == 204);
            is_right.then_some(())
        })
        .await;
        let lines = running.lines();
        assert_eq!(lines.len(), 2, "{file}: {lines:#?}");
        assert!(
            lines[0].starts_with("custom.order.paid.v1 {"),
            "{file}: {lines:#?}"
        );
        assert_eq!(lines[1], "custom.order.sent.v1 7");
        let gone = one.request(reqwest::Method::DELETE, &super::path_of(&webhook));
        let gone = gone.header("if-match", "*").send().await.unwrap();
        assert_eq!(gone.status(), 204);
    }
}

#[tokio::test]
async fn the_crate_of_the_standard_accepts_ours() {
    let daemon = webhooks("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let (mine, one) = (receiver("204 No Content"), client(&daemon, ONE));
    let webhook = one.webhook(&mine.address(), &["custom.*"]).await;
    one.event("custom.order.paid.v1", json!({ "cents": 4200 }))
        .await;
    let asked = until_asked(&mine, 1).await;
    let mut headers = reqwest::header::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let value = asked[0].header(name).unwrap().parse().unwrap();
        headers.insert(name, value);
    }
    let secret = webhook["secret"].as_str().unwrap();
    let verifier = standardwebhooks::Webhook::new(secret).unwrap();
    assert!(verifier.verify(asked[0].body.as_bytes(), &headers).is_ok());
    let changed = asked[0].body.replace("4200", "1");
    assert!(verifier.verify(changed.as_bytes(), &headers).is_err());
}

/// The libraries of Svix, which verify what other senders of the standard sign: program and arguments.
fn svix() -> [(&'static str, Command); 2] {
    const PYTHON: &str = "import json, sys\n\
        from svix.webhooks import Webhook, WebhookVerificationError\n\
        given = json.load(sys.stdin)\n\
        try:\n\
        \u{20}   Webhook(given['secret']).verify(given['body'], given['headers'])\n\
        except WebhookVerificationError as error:\n\
        \u{20}   sys.exit(str(error))\n\
        print(json.loads(given['body'])['type'])\n";
    const NODE: &str = "const { Webhook } = require('svix');\n\
        const given = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));\n\
        new Webhook(given.secret).verify(given.body, given.headers);\n\
        console.log(JSON.parse(given.body).type);\n";
    let tools = repository().join("target/tools/receivers");
    let mut python = Command::new(tools.join("venv/bin/python"));
    python.args(["-c", PYTHON]);
    let mut node = Command::new("node");
    node.env("NODE_PATH", tools.join("node_modules"));
    node.args(["-e", NODE]);
    [("svix of PyPI", python), ("svix of npm", node)]
}

#[tokio::test]
async fn the_libraries_of_svix_accept_ours_and_refuse_others() {
    let daemon = webhooks("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let (mine, one) = (receiver("204 No Content"), client(&daemon, ONE));
    let webhook = one.webhook(&mine.address(), &["custom.*"]).await;
    one.event("custom.order.paid.v1", json!({ "text": "äöü \"quoted\"" }))
        .await;
    let asked = until_asked(&mine, 1).await;
    let mut headers = serde_json::Map::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name.to_owned(), asked[0].header(name).unwrap().into());
    }
    let given = json!({ "secret": webhook["secret"], "headers": headers, "body": asked[0].body });
    let mut forged = given.clone();
    forged["body"] = asked[0].body.replace("quoted", "forged").into();
    for (given, is_ours) in [(given, true), (forged, false)] {
        for (library, mut command) in svix() {
            let mut running = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = running.stdin.take().unwrap();
            input.write_all(given.to_string().as_bytes()).unwrap();
            drop(input);
            let ended = running.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stdout).into_owned();
            let wrong = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert_eq!(ended.status.success(), is_ours, "{library}: {said} {wrong}");
            assert_eq!(
                said.trim() == "custom.order.paid.v1",
                is_ours,
                "{library}: {said}"
            );
        }
    }
}
