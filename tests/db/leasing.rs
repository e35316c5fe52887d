//! The secrets actor with a database role, alone in its tree: whose leases live how long.

use std::{collections::BTreeMap, time::Duration};

use dotmac_platform::{
    secrets::{
        Auth, Client, Config, DatabaseRole, KvVersion, SecretFeed, SecretStore, SecretsActor,
        VaultConfig,
    },
    supervision::{ChildSpec, Policy, Published, SupervisionTree, SupervisorHandle},
};

use crate::support::{OpenBao, Postgres, eventually};

const PASSWORD: &str = "PASSWORD";

/// The contract of every Vault client.
const CLIENTS: &[Client] = &[
    Client::Native,
    #[cfg(feature = "hashicorp_vault")]
    Client::HashicorpVault,
];

struct Stage {
    bao: OpenBao,
    _postgres: Postgres,
    supervisor: SupervisorHandle,
    store: Published<SecretStore>,
    feed: SecretFeed,
}

/// `variables` are those of `deploy/openbao/set-up`.
async fn start(client: Client, variables: &[(&str, &str)]) -> Stage {
    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    let settings: BTreeMap<_, _> = bao.set_up(&postgres, variables).into_iter().collect();
    let config = Config {
        vault: Some(VaultConfig {
            address: bao.address(),
            namespace: None,
            auth: Auth::AppRole {
                mount: "approle".to_owned(),
                role_id: settings["DOTMAC_VAULT_ROLE_ID"].clone().into(),
                secret_id: settings["DOTMAC_VAULT_SECRET_ID"].clone().into(),
                wrapped: false,
            },
            mount: "secret".to_owned(),
            kv_version: KvVersion::V2,
            ca_cert: None,
            timeout: Duration::from_secs(5),
            client,
        }),
        wanted: Vec::new(),
        database_role: Some(DatabaseRole {
            name: "database",
            mount: "database".parse().unwrap(),
            role: "dotmac".parse().unwrap(),
            username: "USERNAME".to_owned(),
            password: PASSWORD.to_owned(),
        }),
        strict: true,
        refresh_interval: Duration::from_secs(60),
        retry_min: Duration::from_millis(20),
        retry_max: Duration::from_millis(200),
        revoke_all_within: Duration::from_secs(4),
    };
    let (store, feed) = (Published::new(), SecretFeed::new());
    let (published, fed) = (store.clone(), feed.clone());
    let mut tree = SupervisionTree::new(Policy::default()).unwrap();
    let spec = ChildSpec::new("secrets", move |life| {
        SecretsActor::new(life, config.clone(), published.clone(), fed.clone())
    });
    tree.add(spec.publishes(&store)).unwrap();
    let stage = Stage {
        bao,
        _postgres: postgres,
        supervisor: tree.start(),
        store,
        feed,
    };
    stage.until_leases(1).await;
    stage.served().await;
    stage
}

impl Stage {
    async fn until_leases(&self, expected: usize) {
        eventually(&format!("{expected} leases"), || async {
            (self.bao.leases().await == expected).then_some(())
        })
        .await;
    }

    async fn served(&self) -> std::sync::Arc<SecretStore> {
        eventually("credentials to be served", || async {
            self.store.get().filter(|it| it.get(PASSWORD).is_some())
        })
        .await
    }

    async fn restart(&self) {
        self.supervisor.restart("secrets").unwrap();
        self.supervisor
            .until(|board| board.components[0].generation == 2)
            .await;
    }
}

#[actix_web::test]
async fn a_restart_of_the_actor_leaves_a_lease_to_its_holder_and_revokes_it_after_that() {
    for &client in CLIENTS {
        let stage = start(client, &[]).await;
        let held = stage.served().await.hold(PASSWORD).unwrap().clone();
        stage.restart().await;
        stage.until_leases(2).await;
        stage.served().await;
        assert_eq!(stage.bao.leases().await, 2, "the former is in use");
        drop(held);
        stage.until_leases(1).await;
    }
}

#[actix_web::test]
async fn only_the_end_of_the_process_takes_a_lease_from_its_holder() {
    for &client in CLIENTS {
        let stage = start(client, &[]).await;
        let held = stage.served().await.hold(PASSWORD).unwrap().clone();
        stage.feed.end();
        stage.supervisor.halt().await;
        assert_eq!(stage.bao.leases().await, 0);
        drop(held);
    }
}

#[actix_web::test]
async fn credentials_that_worked_and_are_refused_are_replaced_at_once() {
    for &client in CLIENTS {
        let stage = start(client, &[]).await;
        let former = stage.served().await;
        let hold = former.hold(PASSWORD).unwrap();
        hold.taken();
        hold.refused();
        eventually("other credentials", || async {
            let store = stage.store.get()?;
            former
                .changed_keys(&store)
                .contains(&PASSWORD.to_owned())
                .then_some(())
        })
        .await;
    }
}

#[actix_web::test]
async fn a_lease_is_renewed_as_long_as_it_may_be_and_then_replaced() {
    for &client in CLIENTS {
        let stage = start(client, &[("TTL", "2s"), ("MAX_TTL", "5s")]).await;
        let first = stage.served().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let store = stage.served().await;
        assert!(!first.changed_keys(&store).contains(&PASSWORD.to_owned()));
        drop((first, store));
        eventually("another user", || async {
            let (issued, revoked) = stage.bao.leases_by_fate();
            (issued.len() == 2 && revoked.len() == 1).then_some(())
        })
        .await;
    }
}
