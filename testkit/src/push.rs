//! A browser that takes push messages, as far as cryptography goes: the reference implementation of encrypted content
//! (`http_ece`) opens what it is sent, `py_vapid` verifies the sender's token. `pywebpush`, which only encrypts, is another
//! sender to compare with.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::repository;

/// A browser with keys of its own.
pub struct Browser {
    /// Its public key, base64url.
    pub p256dh: String,
    /// Its secret, base64url.
    pub auth: String,
    private: String,
}

/// A message that a browser has opened.
#[derive(Debug)]
pub struct OpenedMessage {
    /// Its content.
    pub text: String,
    /// The claims of its sender's token, with a valid signature.
    pub claims: Value,
    /// The sender's public key, base64url.
    pub sender: String,
}

impl Browser {
    /// One that was just made.
    pub fn new() -> Self {
        let made = run(&json!({ "make": true })).unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Self {
            p256dh: text("p256dh"),
            auth: text("auth"),
            private: text("private"),
        }
    }

    /// Opens what the push service was given for it: its body, and the value of `authorization`.
    pub fn open(&self, body: &[u8], authorization: &str) -> Result<OpenedMessage, String> {
        let body: String = body.iter().map(|it| format!("{it:02x}")).collect();
        self.open_hex(&body, authorization)
    }

    /// What `pywebpush` sends as the body of a message with that text, in hex.
    pub fn encrypted_by_pywebpush(&self, text: &str) -> String {
        let asked = json!({ "text": text, "p256dh": self.p256dh, "auth": self.auth });
        let encrypted = run(&asked).unwrap();
        encrypted["body"].as_str().unwrap().to_owned()
    }

    /// As [`open`](Self::open), with the body in hex.
    pub fn open_hex(&self, body: &str, authorization: &str) -> Result<OpenedMessage, String> {
        let opened = run(&json!({
            "private": self.private,
            "auth": self.auth,
            "body": body,
            "authorization": authorization,
        }))?;
        let text = |name: &str| opened[name].as_str().unwrap().to_owned();
        Ok(OpenedMessage {
            text: text("text"),
            claims: opened["claims"].clone(),
            sender: text("sender"),
        })
    }
}

impl Default for Browser {
    fn default() -> Self {
        Self::new()
    }
}

/// The answer of the program in Python.
fn run(asked: &Value) -> Result<Value, String> {
    let python = repository().join("target/tools/receivers/venv/bin/python");
    assert!(python.exists(), "pywebpush is missing: run tests/setup");
    let mut running = Command::new(python)
        .arg(repository().join("testkit/src/push_browser.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = running.stdin.take().unwrap();
    input.write_all(asked.to_string().as_bytes()).unwrap();
    drop(input);
    let ended = running.wait_with_output().unwrap();
    if !ended.status.success() {
        return Err(String::from_utf8_lossy(&ended.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&ended.stdout).unwrap())
}
