//! How a value that is provided gets to the handlers of a route.

use std::sync::Arc;

use actix_web::Resource;

/// Puts one value among those that the handlers of a resource find.
#[derive(Clone)]
pub(crate) struct Insert(Arc<dyn Fn(Resource) -> Resource + Send + Sync>);

impl Insert {
    pub(crate) fn of<T: Clone + Send + Sync + 'static>(value: T) -> Self {
        Self(Arc::new(move |resource| resource.app_data(value.clone())))
    }

    /// The resource with the value.
    pub(super) fn add_to(&self, resource: Resource) -> Resource {
        (self.0)(resource)
    }
}
