//! One thing of each kind in the tenant `default`, so that every route has something to be called with.

use serde_json::{Value, json};

use super::house::{ADMIN, Credentials, House, PASSWORD};
use crate::support::{Daemon, eventually};

impl House {
    pub(super) async fn furnish(&mut self, url: &str) {
        let made = Daemon::builder()
            .env("DOTMAC_DATABASE_URL", url)
            .run_in(
                self.daemon.directory(),
                &["user", "create-admin", "--email", ADMIN, "--json"],
            )
            .await;
        let line = made.lines.iter().find(|line| line.contains("\"token\""));
        let made: Value = serde_json::from_str(line.unwrap()).unwrap();
        let reset = json!({ "token": made["token"], "password": PASSWORD });
        let answer = self
            .post("/auth/password/reset", Credentials::None, reset)
            .await;
        assert_eq!(answer.0, 204, "{answer:?}");
        self.admin = self.login(ADMIN).await;

        let ann = json!({ "email": "ann@example.com", "password": PASSWORD, "roles": ["member"] });
        let ann = self.make("/users", ann).await;
        let role = json!({ "name": "own", "permissions": ["accounts.users.read"] });
        let role = self.make("/roles", role).await;
        let account = self
            .make("/service-accounts", json!({ "name": "ci" }))
            .await;
        let grant = json!({ "principal": account, "permission": "accounts.users.read" });
        let grant = self.make("/grants", grant).await;
        let key = json!({ "name": "key", "scopes": ["accounts.users.read"], "service_account_id": account });
        let key = self.make("/api-keys", key).await;
        let own = json!({ "name": "own", "scopes": ["accounts.users.read"] });
        let own = self.make("/auth/me/api-keys", own).await;
        let echo = json!({ "kind": "system.echo", "args": { "text": "a" }, "run_at": "2099-01-01T00:00:00Z" });
        let job = self.make("/jobs", echo).await;
        let daily = json!({ "name": "daily", "kind": "system.echo", "args": { "text": "a" }, "every": 86_400 });
        let schedule = self.make("/schedules", daily).await;
        let hook = json!({ "url": "http://127.0.0.1:1/", "events": ["custom.*"] });
        let hook = self.make("/webhooks", hook).await;
        let delivery = self
            .make(&format!("/webhooks/{hook}/test"), json!({}))
            .await;
        let template = json!({ "key": "welcome", "subject": "Welcome", "text": "Hello" });
        let template = self.make("/templates", template).await;
        let notification = self.notify(json!({ "email": "ann@example.com" })).await;
        let item = self.item().await;
        let browser = json!({
            "endpoint": "https://push.example.com/send",
            "keys": {
                "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
                "auth": "BTBZMqHH6r4Tts7J_aSIgg",
            },
        });
        let browser = self.make("/push/subscriptions", browser).await;
        let first = async |path: &str| {
            eventually(path, || async {
                let list = self.get(path, Credentials::Bearer(&self.admin)).await.1;
                let id = list["items"].as_array()?.first()?["id"].as_str()?;
                Some(id.to_owned())
            })
            .await
        };
        let file = self.upload().await;
        let link = self.make(&format!("/files/{file}/links"), json!({})).await;
        self.ids = vec![
            ("/files/", file),
            ("/links/", link),
            // Of the content that the file has.
            ("/versions/", "1".to_owned()),
            ("/renditions/", "40x30.png".to_owned()),
            ("/tus/", self.begin_upload().await),
            ("/users/", ann.clone()),
            ("/members/", ann),
            ("/roles/", role),
            ("/grants/", grant),
            ("/service-accounts/", account),
            ("/me/api-keys/", own),
            ("/api-keys/", key),
            ("/role-bindings/", first("/role-bindings").await),
            ("/sessions/", first("/auth/me/sessions").await),
            ("/subscribers/", "notes.tags".to_owned()),
            // The reading itself is an act that is recorded.
            ("/audit/events/", first("/audit/events").await),
            ("/events/", first("/events").await),
            ("/jobs/", job),
            ("/templates/", template),
            ("/suppressions/", self.suppression().await),
            ("/notifications/", notification.0),
            ("/deliveries/", notification.1),
            ("/inbox/", item),
            // One that does not exist: a passkey is made by an authenticator alone.
            (
                "/passkeys/",
                "01900000-0000-7000-8000-0000000000aa".to_owned(),
            ),
            ("/push/subscriptions/", browser),
            ("/queues/", "default".to_owned()),
            ("/schedules/", schedule),
            ("/webhooks/", hook),
            ("/webhook-deliveries/", delivery),
            (
                "/tenants/",
                "01900000-0000-7000-8000-000000000001".to_owned(),
            ),
        ];
    }

    /// Sends a notification; its id, and that of its delivery.
    async fn notify(&self, to: Value) -> (String, String) {
        let new = json!({ "to": [to], "content": { "subject": "Hello", "text": "Good day." } });
        let admin = Credentials::Bearer(&self.admin);
        let (status, sent) = self.post("/notifications", admin, new).await;
        assert_eq!(status, 202, "{sent}");
        let id = |it: &Value| it["id"].as_str().unwrap().to_owned();
        (id(&sent), id(&sent["deliveries"][0]))
    }

    /// An item in the inbox of the administrator.
    async fn item(&self) -> String {
        let me = self
            .get("/auth/me", Credentials::Bearer(&self.admin))
            .await
            .1;
        self.notify(json!({ "user": me["id"] })).await.1
    }

    /// A recipient that has unsubscribed.
    async fn suppression(&self) -> String {
        let admin = Credentials::Bearer(&self.admin);
        let held = self.get("/notifications/outbox", admin).await.1;
        let link = held["items"][0]["unsubscribe_url"].as_str().unwrap();
        let (_, path) = link.split_once("/api/v1").unwrap();
        let clicked = self.post(path, Credentials::None, json!({})).await;
        assert_eq!(clicked.0, 200, "{clicked:?}");
        let all = self.get("/suppressions", admin).await.1;
        all["items"][0]["id"].as_str().unwrap().to_owned()
    }

    /// A file of the administrator; its id.
    async fn upload(&self) -> String {
        let url = format!("{}/api/v1/files/content?name=a.txt", self.daemon.base);
        let request = self.daemon.client.put(url).body("hello");
        let answer = request.bearer_auth(&self.admin).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let file: Value = answer.json().await.unwrap();
        file["id"].as_str().unwrap().to_owned()
    }

    /// An upload of the administrator that is not whole; its id.
    async fn begin_upload(&self) -> String {
        let url = format!("{}/api/v1/files/tus", self.daemon.base);
        let request = self.daemon.client.post(url).bearer_auth(&self.admin);
        let request = request
            .header("tus-resumable", "1.0.0")
            .header("upload-length", "5")
            .header("upload-metadata", "filename YQ==");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let upload: Value = answer.json().await.unwrap();
        upload["id"].as_str().unwrap().to_owned()
    }
}
