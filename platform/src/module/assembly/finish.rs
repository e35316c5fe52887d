//! The end of an assembly: what only the whole can tell, and what depends on all modules.

use super::{Assembly, AssemblyError, PLATFORM};
use crate::{
    access::Authentication,
    egress::Egress,
    events, http,
    module::Registered,
    routing::{Limiter, MountedRoutes, Route},
    settings::Settings,
};

impl Assembly {
    /// Checks what only the whole can tell: that handlers get what they take, and that routes can be reached.
    pub(super) fn finish(
        &mut self,
        settings: &Settings,
        modules: &[Registered],
    ) -> Result<(), AssemblyError> {
        if let Some(mistake) = self.misdeclared.take() {
            return Err(mistake.into());
        }
        for find in std::mem::take(&mut self.awaited) {
            find(&self.values);
        }
        self.provide_cursor_key(settings)?;
        self.provide_key_store(settings)?;
        self.add_event_retention()?;
        self.add_audit_workers()?;
        if self.declared.iter().any(Route::needs::<Egress>) {
            self.calls_out.set(true);
        }
        self.add_job_runner(settings)?;
        // An authenticator may limit the requests of a principal on its own.
        if self.authenticator.is_some() || self.declared.iter().any(Route::needs::<Limiter>) {
            self.values.share(PLATFORM, Limiter::new())?;
        }
        let declared = std::mem::take(&mut self.declared);
        let permissions = modules
            .iter()
            .flat_map(|module| module.manifest.permissions);
        let permissions: Vec<_> = permissions.map(|permission| permission.name).collect();
        let built_in = http::built_in_paths();
        let authentication = Authentication::by(
            self.authenticator.take().map(|(_, it)| it),
            self.authorizer.take().map(|(_, it)| it),
        );
        let mounted = MountedRoutes::new(
            declared,
            &built_in,
            &permissions,
            authentication.clone(),
            |module, id| self.values.insert(module, id),
        )?;
        if mounted.are_any() {
            self.routes.serve_modules(mounted);
        }
        self.routes.provide(authentication);
        let events = self.events.clone();
        let document = move |name: &str, version: &str| events::document(name, version, &events);
        self.routes.provide(http::EventsDocument::new(document));
        Ok(())
    }

    /// The client for calls to the outside, for a module.
    pub(in crate::module) fn take_egress(&self) -> Egress {
        if !self.calls_out.replace(true) {
            self.egress.measure();
        }
        self.egress.clone()
    }

    /// Files and sockets that calls to the outside have open at the most: none if no module makes any.
    pub(crate) fn egress_descriptors(&self) -> usize {
        match self.calls_out.get() {
            true => self.egress.most_descriptors(),
            false => 0,
        }
    }

    /// Lets each module have its share of so many requests at a time.
    pub(crate) fn bound_requests(&self, requests: usize) {
        self.requests
            .iter()
            .for_each(|module| module.bound(requests));
    }
}
