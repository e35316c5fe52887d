//! Mail in programs that have a module for it, and in those that have none.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::sync::Mutex;

use super::*;
use crate::{
    access::Public,
    module::{
        Manifest, MountError,
        tests::{assembled, module, refusal},
    },
    routing::{NoContent, Use},
};

struct Taken(Mutex<Vec<&'static str>>);

impl MailQueue for Taken {
    fn queue<'c>(
        &'c self,
        _: &'c mut Tx,
        _: TenantId,
        mail: Mail,
    ) -> BoxFuture<'c, Result<Mailed, MailError>> {
        self.0.lock().unwrap().push(mail.purpose);
        Box::pin(std::future::ready(Ok(Mailed::Queued(MailId::new()))))
    }

    fn has_relay(&self) -> bool {
        true
    }
}

async fn sends(_: Public, mailer: Use<Mailer>) -> NoContent {
    assert!(mailer.has_relay());
    NoContent
}

#[test]
fn the_module_that_sends_mail_may_be_mounted_after_those_that_use_it() {
    module!(Sends, "alpha", Manifest::new("A."), |on| {
        let mailer = on.mailer();
        if mailer.has_relay() {
            return Err(MountError::other("it is known too early"));
        }
        on.share(mailer);
        on.routes("/alpha", |routes| _ = routes.get("", sends));
        Ok(())
    });
    module!(Carries, "beta", Manifest::new("B."), |on| {
        on.share::<SharedMailQueue>(Arc::new(Taken(Mutex::default())));
        Ok(())
    });
    // The platform shares the one mailer of a program, so a second one is refused.
    let why = refusal::<Sends, Carries>();
    assert!(
        why.contains("Mailer") && why.contains("shared already"),
        "{why}"
    );

    module!(Uses, "alpha", Manifest::new("A."), |on| {
        on.provide(on.mailer());
        on.routes("/alpha", |routes| _ = routes.get("", sends));
        Ok(())
    });
    for with in [
        assembled::<Uses, Carries>(&[]),
        assembled::<Carries, Uses>(&[]),
    ] {
        let mailer = with.map(|it| it.values.get::<Mailer>("alpha")).unwrap();
        assert!(mailer.is_some_and(|it| it.has_relay()));
    }
}

#[test]
fn a_program_without_such_a_module_sends_no_mail() {
    module!(Uses, "alpha", Manifest::new("A."), |on| {
        on.routes("/alpha", |routes| _ = routes.get("", sends));
        Ok(())
    });
    module!(Empty, "beta", Manifest::new("B."), |_| Ok(()));
    let program = assembled::<Uses, Empty>(&[]).unwrap();
    let mailer: Mailer = program.values.shared().unwrap();
    assert!(!mailer.has_relay());
}
