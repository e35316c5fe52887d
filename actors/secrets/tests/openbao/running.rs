//! The actor under a supervisor, and what can be seen of it from outside.

use std::time::{Duration, Instant};

use dotmac_secrets::{Config, SecretFeed, SecretStore, SecretsActor};
use dotmac_supervision::{
    ActorHandle, ChildSpec, Component, Policy, Published, State, SupervisionTree, SupervisorHandle,
};
use secrecy::ExposeSecret;

use crate::server::Outcome;

pub(crate) struct Running {
    pub(crate) supervisor: SupervisorHandle,
    pub(crate) handle: ActorHandle<SecretsActor>,
    pub(crate) store: Published<SecretStore>,
    pub(crate) feed: SecretFeed,
}

impl Running {
    pub(crate) fn start(config: Config) -> Outcome<Self> {
        let store = Published::new();
        let mut tree = SupervisionTree::new(Policy::default())?;
        let feed = SecretFeed::new();
        let (publish, tell) = (store.clone(), feed.clone());
        let factory = move |lifeline| {
            SecretsActor::new(lifeline, config.clone(), publish.clone(), tell.clone())
        };
        let handle = tree.add(ChildSpec::new("secrets", factory).publishes(&store))?;
        Ok(Self {
            supervisor: tree.start(),
            handle,
            store,
            feed,
        })
    }

    pub(crate) fn component(&self) -> Outcome<Component> {
        self.supervisor
            .board()
            .components
            .first()
            .cloned()
            .ok_or_else(|| "no component".into())
    }

    pub(crate) async fn until(
        &self,
        what: &str,
        mut so: impl FnMut(&Component) -> bool,
    ) -> Outcome {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let component = self.component()?;
            if so(&component) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("not {what}: {component:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn until_state(&self, state: State) -> Outcome {
        self.until(&format!("{state:?}"), |component| component.state == state)
            .await
    }

    pub(crate) async fn until_secret(&self, key: &str, value: &str) -> Outcome {
        self.until(value, |_| self.secret(key).as_deref() == Some(value))
            .await
    }

    pub(crate) fn secret(&self, key: &str) -> Option<String> {
        Some(self.store.get()?.get(key)?.expose_secret().to_owned())
    }
}
