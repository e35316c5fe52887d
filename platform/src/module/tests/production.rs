//! Secrets that a module needs: refused in production where they cannot be there, a warning elsewhere.

use super::*;

#[test]
fn lists_in_pages_need_a_secret_in_production() {
    use crate::routing::{CursorScope, Page, Paging, Rows};
    async fn list(_: Public, paging: Paging) -> Page<u64> {
        let scope = CursorScope::of(dotmac_db::TenantId::new(), "numbers");
        let rows = Rows {
            rows: vec![1],
            total: None,
        };
        paging.page(&scope, rows, |number| *number)
    }
    module!(Lists, "alpha", Manifest::new("A."), |on| {
        on.routes("/numbers", |routes| _ = routes.get("", list));
        Ok(())
    });
    let production = [
        ("DOTMAC_ENVIRONMENT", "production"),
        ("DOTMAC_DATABASE_ALLOW_SQLITE", "true"),
    ];
    let why = assembled::<Lists, Empty>(&production)
        .err()
        .unwrap_or_default();
    assert!(why.contains("DOTMAC_APP_SECRET_KEY is needed"), "{why}");
    assert!(assembled::<Lists, Empty>(&[]).is_ok());
}

#[test]
fn a_module_that_seals_needs_a_key_in_production_and_declares_it_in_its_manifest() {
    use crate::sealing::Sealer;
    async fn seal(_: Public, _: Use<Sealer>) -> NoContent {
        NoContent
    }
    module!(Seals, "alpha", Manifest::new("A.").seals(), |on| {
        let sealer = on.sealer()?;
        assert!(sealer.keyring().ids().is_empty(), "nothing is started yet");
        on.routes("/things", |routes| _ = routes.get("", seal));
        Ok(())
    });
    let production = [
        ("DOTMAC_ENVIRONMENT", "production"),
        ("DOTMAC_DATABASE_ALLOW_SQLITE", "true"),
    ];
    let why = assembled::<Seals, Empty>(&production).err();
    let why = why.unwrap_or_default();
    assert!(why.contains("module `alpha` seals"), "{why}");
    assert!(why.contains("DOTMAC_APP_MASTER_KEY is not set"), "{why}");
    let key = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
    let given = ("DOTMAC_APP_MASTER_KEY", key);
    let with_key = [production[0], production[1], given];
    assert!(assembled::<Seals, Empty>(&with_key).is_ok());
    assert!(
        assembled::<Seals, Empty>(&[]).is_ok(),
        "a developer is warned"
    );
    assert!(assembled::<Empty, Quietly>(&production).is_ok());

    module!(Quietly, "beta", Manifest::new("B."), |_| Ok(()));
    module!(Undeclared, "beta", Manifest::new("B."), |on| {
        on.sealer()?;
        Ok(())
    });
    let why = refusal::<Seals, Undeclared>();
    assert!(why.contains("`beta`") && why.contains("`seals()`"), "{why}");
}

#[test]
fn a_secret_in_vault_without_vault_is_refused_in_production() {
    module!(Needy, "alpha", Manifest::new("A."), |on| {
        let needs = Needs::secret("vault:alpha/key");
        on.actor("", needs, |life, _| Quiet(life)).add()?;
        Ok(())
    });
    let production = [
        ("DOTMAC_ENVIRONMENT", "production"),
        ("DOTMAC_DATABASE_ALLOW_SQLITE", "true"),
    ];
    let why = assembled::<Needy, Empty>(&production)
        .err()
        .unwrap_or_default();
    assert!(
        why.contains("`alpha` needs the secret `vault:alpha/key`, and Vault is not enabled"),
        "{why}"
    );
    assert!(assembled::<Needy, Empty>(&[]).is_ok(), "a warning");
}
