//! Chromium without a window, driven by the DevTools protocol over a pipe, with authenticators that are made up.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{PATIENCE, eventually, tool};

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// A running browser with its own profile. Killed when dropped.
pub struct Browser {
    child: Child,
    input: Mutex<ChildStdin>,
    waiting: Waiting,
    calls: AtomicU64,
    /// Kept until the browser is gone.
    _profile: tempfile::TempDir,
}

/// A tab.
pub struct Page<'b> {
    browser: &'b Browser,
    session: String,
}

impl Browser {
    /// Starts it with an empty profile.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        // The browser reads commands from descriptor 3, and answers on descriptor 4.
        shell.args([
            "-c",
            r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#,
        ]);
        shell.arg(tool("chromium"));
        // Its sandbox wants a user who is not root.
        shell.args(["--headless=new", "--no-sandbox", "--remote-debugging-pipe"]);
        shell.args(["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
        shell.args(["--disable-background-networking", "--disable-sync"]);
        shell.arg(format!("--user-data-dir={}", profile.path().display()));
        let mut child = shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = Mutex::new(child.stdin.take().unwrap());
        let waiting = Waiting::default();
        let (answers, awaited) = (child.stdout.take().unwrap(), Arc::clone(&waiting));
        std::thread::spawn(move || {
            let messages = BufReader::new(answers).split(0);
            for message in messages.map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice::<Value>(&message) else {
                    continue;
                };
                let id = message["id"].as_u64();
                let waiting = id.and_then(|id| awaited.lock().unwrap().remove(&id));
                if let Some(waiting) = waiting {
                    // A caller that has given up is no failure of the browser.
                    waiting.send(message).ok();
                }
            }
        });
        Self {
            child,
            input,
            waiting,
            calls: AtomicU64::new(1),
            _profile: profile,
        }
    }

    /// Opens a page, and waits until it is there.
    pub async fn open(&self, url: &str) -> Page<'_> {
        let target = self
            .call(None, "Target.createTarget", json!({ "url": "about:blank" }))
            .await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call(None, "Target.attachToTarget", attach).await;
        let page = Page {
            browser: self,
            session: attached["sessionId"].as_str().unwrap().to_owned(),
        };
        page.go_to(url).await;
        page
    }

    async fn call(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let answer = self.answer(session, method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    async fn answer(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let id = self.calls.fetch_add(1, Relaxed);
        let mut command = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap().insert(id, answer);
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        self.input.lock().unwrap().write_all(&bytes).unwrap();
        let answer = tokio::time::timeout(PATIENCE, answered).await;
        answer
            .unwrap_or_else(|_| panic!("{method}: no answer in {PATIENCE:?}"))
            .unwrap_or_else(|_| panic!("{method}: the browser has ended"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Page<'_> {
    /// Sends a command of the protocol; its result.
    pub async fn call(&self, method: &str, params: Value) -> Value {
        self.browser.call(Some(&self.session), method, params).await
    }

    /// Loads another page, and waits until it is there.
    pub async fn go_to(&self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
        eventually(url, || async {
            // Between two pages there is none to ask.
            let script = "[document.readyState, location.href].join(' ')";
            let params = json!({ "expression": script, "returnByValue": true });
            let session = Some(self.session.as_str());
            let state = self.browser.answer(session, "Runtime.evaluate", params);
            let state = state.await["result"]["result"]["value"].clone();
            (state == format!("complete {url}")).then_some(())
        })
        .await;
    }

    /// The result of a script in the page; a promise is awaited. An exception fails the test.
    pub async fn evaluate(&self, script: &str) -> Value {
        let result = self.run(script).await;
        assert!(
            result.get("exceptionDetails").is_none(),
            "{script}: {result}"
        );
        result["result"]["value"].clone()
    }

    /// The name of what a script throws, such as `NotAllowedError`.
    pub async fn thrown(&self, script: &str) -> String {
        let caught =
            format!("(async () => {{ {script} }})().then(() => null, error => error.name)");
        let name = self.evaluate(&caught).await;
        let name = name
            .as_str()
            .unwrap_or_else(|| panic!("{script} threw nothing"));
        name.to_owned()
    }

    async fn run(&self, script: &str) -> Value {
        let params = json!({
            "expression": script,
            "awaitPromise": true,
            "returnByValue": true,
            "userGesture": true,
        });
        self.call("Runtime.evaluate", params).await
    }

    /// Gives the page an authenticator; its id. `options` are those of `WebAuthn.addVirtualAuthenticator` that differ from a
    /// device that verifies its user and keeps passkeys.
    pub async fn add_authenticator(&self, options: Value) -> String {
        self.call("WebAuthn.enable", json!({})).await;
        let mut all = json!({
            "protocol": "ctap2",
            "ctap2Version": "ctap2_1",
            "transport": "internal",
            "hasResidentKey": true,
            "hasUserVerification": true,
            "isUserVerified": true,
            "automaticPresenceSimulation": true,
        });
        let options = options.as_object().cloned().unwrap_or_default();
        all.as_object_mut().unwrap().extend(options);
        let added = self
            .call(
                "WebAuthn.addVirtualAuthenticator",
                json!({ "options": all }),
            )
            .await;
        added["authenticatorId"].as_str().unwrap().to_owned()
    }

    /// The passkeys that an authenticator has.
    pub async fn passkeys(&self, authenticator: &str) -> Vec<Value> {
        let has = json!({ "authenticatorId": authenticator });
        let found = self.call("WebAuthn.getCredentials", has).await;
        found["credentials"].as_array().unwrap().clone()
    }
}
