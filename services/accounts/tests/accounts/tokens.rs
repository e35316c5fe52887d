//! Access tokens as another library sees them, and those that it makes.

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::{Command, Stdio},
};

use dotmac_testkit::{OpenBao, repository};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::House;

/// What joserfc has made.
#[derive(Deserialize)]
struct Made {
    accepted: String,
    refused: BTreeMap<String, String>,
}

fn joserfc(given: &Value) -> Made {
    let python = repository().join("target/tools/proofs/bin/python");
    assert!(python.exists(), "joserfc is missing: run tests/setup");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/accounts/tokens.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(given.to_string().as_bytes()).unwrap();
    drop(input);
    let done = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
    serde_json::from_slice(&done.stdout).unwrap()
}

#[tokio::test]
async fn another_library_accepts_our_tokens_and_of_its_own_one_is_accepted() {
    // Where the private key is, so that another can sign with it.
    let bao = OpenBao::start().await;
    let house = House::with_vault(&bao).await;
    let token = house.admin_session().await.text("access_token");
    let jwks = house.get("/.well-known/jwks.json", None).await.body;
    let kid = jwks["keys"][0]["kid"].as_str().unwrap();
    let path = format!("secret/data/accounts/signing/{kid}");
    let private = bao.call(Method::GET, &path, json!(null)).await;
    let made = joserfc(&json!({
        "jwks": jwks,
        "token": token,
        "issuer": "http://localhost:8000",
        "audience": "dotmac",
        "private": private["data"]["data"]["key"],
    }));
    let me = house.get("/auth/me", Some(&made.accepted)).await;
    assert_eq!(me.status, 200, "{me:?}");
    assert!(made.refused.len() >= 18, "{:?}", made.refused.keys());
    for (what, token) in &made.refused {
        let answer = house.get("/auth/me", Some(token)).await;
        let codes = ["token_invalid", "token_expired", "session_ended"];
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        assert!(codes.contains(&answer.code()), "{what}: {answer:?}");
    }
}
