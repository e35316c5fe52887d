//! The values that handlers and actors take: those of one module, and those that all modules share.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
};

use crate::{module::MountError, routing::Insert};

/// Who shares what no module does.
pub(super) const PLATFORM: &str = "the platform";

/// Everything that is provided.
#[derive(Default)]
pub(crate) struct Values {
    /// By the module whose handlers take them.
    own: HashMap<(&'static str, TypeId), Value>,
    shared: HashMap<TypeId, Value>,
}

/// One value, as actors and as handlers get it.
struct Value {
    /// The module that gave it.
    by: &'static str,
    value: Box<dyn Any>,
    insert: Insert,
}

impl Value {
    fn new<T: Clone + Send + Sync + 'static>(by: &'static str, value: T) -> Self {
        Self {
            by,
            value: Box::new(value.clone()),
            insert: Insert::of(value),
        }
    }
}

impl Values {
    /// Makes `value` available within `module`.
    ///
    /// # Errors
    ///
    /// [`MountError::ProvidedTwice`]; the first one stays.
    pub(crate) fn provide<T: Clone + Send + Sync + 'static>(
        &mut self,
        module: &'static str,
        value: T,
    ) -> Result<(), MountError> {
        let place = (module, TypeId::of::<T>());
        if self.own.contains_key(&place) {
            return Err(MountError::ProvidedTwice(type_name::<T>()));
        }
        self.own.insert(place, Value::new(module, value));
        Ok(())
    }

    /// Makes `value` available within every module.
    ///
    /// # Errors
    ///
    /// [`MountError::SharedTwice`]; the first one stays.
    pub(crate) fn share<T: Clone + Send + Sync + 'static>(
        &mut self,
        by: &'static str,
        value: T,
    ) -> Result<(), MountError> {
        if let Some(first) = self.shared.get(&TypeId::of::<T>()) {
            return Err(MountError::SharedTwice {
                value: type_name::<T>(),
                first: first.by,
            });
        }
        self.shared.insert(TypeId::of::<T>(), Value::new(by, value));
        Ok(())
    }

    /// The `T` of `module`; else the one that is shared.
    pub(crate) fn get<T: Clone + 'static>(&self, module: &'static str) -> Option<T> {
        let value = self.value(module, TypeId::of::<T>())?;
        value.value.downcast_ref().cloned()
    }

    /// The `T` that is shared.
    pub(crate) fn shared<T: Clone + 'static>(&self) -> Option<T> {
        let value = self.shared.get(&TypeId::of::<T>())?;
        value.value.downcast_ref().cloned()
    }

    /// The provider of a value for the handlers of `module`.
    pub(crate) fn insert(&self, module: &'static str, id: TypeId) -> Option<Insert> {
        self.value(module, id).map(|value| value.insert.clone())
    }

    fn value(&self, module: &'static str, id: TypeId) -> Option<&Value> {
        self.own.get(&(module, id)).or_else(|| self.shared.get(&id))
    }
}
