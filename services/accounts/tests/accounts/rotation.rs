//! Signing keys that change while clients refresh and call: no token is refused, not even by an instance that cannot open the new key.

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Answer, House, MASTER_KEY};

/// The key that signed the token.
fn kid(token: &str) -> String {
    let head = token.split('.').next().unwrap();
    let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).unwrap()).unwrap();
    head["kid"].as_str().unwrap().to_owned()
}

impl House {
    async fn refresh(&self, instance: usize, session: &Answer) -> Answer {
        let body = json!({ "refresh_token": session.text("refresh_token") });
        let path = "/auth/refresh";
        let renewed = self.send(instance, Method::POST, path, None, Some(body), &[]);
        let renewed = renewed.await;
        assert_eq!(renewed.status, 200, "{renewed:?}");
        renewed
    }

    /// The token is accepted by every instance.
    async fn verifies(&self, token: &str) {
        for instance in 0..self.instances.len() {
            let me = self.send(instance, Method::GET, "/auth/me", Some(token), None, &[]);
            let me = me.await;
            assert_eq!(
                me.status,
                200,
                "instance {instance}, {}: {me:?}",
                kid(token)
            );
        }
    }

    /// Makes a key, and has it sign as soon as all instances publish it, not after eleven minutes; there are `keys` of them then.
    async fn rotate(&self, keys: usize) {
        self.command(&["accounts", "keys", "rotate"]).await;
        for instance in 0..self.instances.len() {
            dotmac_testkit::eventually("the new key to be published", || async {
                (self.published(instance).await == keys).then_some(())
            })
            .await;
        }
        // It is noted as a rotation notes it.
        let now = chrono::Utc::now().format("%Y-%m-%d %H:%M:%S%.6f");
        self.sql(&format!(
            "UPDATE signing_keys SET activate_at = '{now}' WHERE activate_at > '{now}'; \
             INSERT INTO accounts_changes (kind, subject, at) \
             SELECT 'keys', id, '{now}' FROM signing_keys ORDER BY activate_at DESC LIMIT 1"
        ))
        .await;
    }

    /// How many keys an instance publishes.
    async fn published(&self, instance: usize) -> usize {
        let path = "/.well-known/jwks.json";
        let jwks = self.send(instance, Method::GET, path, None, None, &[]);
        jwks.await.body["keys"].as_array().unwrap().len()
    }
}

#[tokio::test]
async fn while_signing_keys_are_replaced_every_token_is_accepted_on_every_instance() {
    for house in [
        House::on_sqlite(2, &[]).await,
        House::on_postgres(2, &[]).await,
    ] {
        let admin = house.admin_session().await.text("access_token");
        let mut sessions = Vec::new();
        for number in 0..6 {
            let email = format!("user{number}@example.com");
            sessions.push(house.user(&admin, &email, &[]).await.1);
        }
        // Which instance has signed with which key.
        let signed = RefCell::new(BTreeSet::new());
        let rotating = async {
            for keys in 2..=4 {
                house.rotate(keys).await;
                dotmac_testkit::eventually("both instances to sign with the new key", || async {
                    (signed.borrow().len() == 2 * keys).then_some(())
                })
                .await;
            }
        };
        // All users at once, each as often as a session may be refreshed.
        let refreshing = join_all(sessions.into_iter().map(async |mut session: Answer| {
            let first = session.text("access_token");
            for round in 0.. {
                let instance = round % 2;
                let renewed = house.refresh(instance, &session).await;
                let token = renewed.text("access_token");
                house.verifies(&token).await;
                // Signed before all rotations.
                house.verifies(&first).await;
                signed.borrow_mut().insert((instance, kid(&token)));
                session = renewed;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }));
        tokio::select! {
            () = rotating => {}
            _ = refreshing => {}
        }
    }
}

/// As one whose master key is not changed yet, or whose Vault does not answer.
#[tokio::test]
async fn an_instance_that_cannot_open_the_new_signing_key_signs_on_with_the_former_one() {
    let mut house = House::on_postgres(1, &[]).await;
    let mut session = house.admin_session().await;
    let former = kid(&session.text("access_token"));
    let new = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
    let both = format!("{new},{MASTER_KEY}");
    house.settings.push(("DOTMAC_APP_MASTER_KEY", both));
    house.spawn(1).await;
    house.rotate(2).await;
    let said = "a signing key cannot be opened on this instance; another one signs";
    house.instances[0].logged(said).await;
    let signs = async |session: &mut Answer, instance: usize| {
        let renewed = house.refresh(instance, session).await;
        let token = renewed.text("access_token");
        house.verifies(&token).await;
        *session = renewed;
        kid(&token)
    };
    // Tried by the other one until it signs with the new key, by this one as often.
    let mut tries = 0;
    while signs(&mut session, 1).await == former {
        assert_eq!(signs(&mut session, 0).await, former);
        tries += 1;
        assert!(tries < 20, "the new key signs nowhere");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(signs(&mut session, 0).await, former);
}
