//! What a module is written with: `use dotmac_platform::prelude::*`.

pub use actix_web::web::{Json, Path};

pub use crate::{
    Platform,
    access::{Authenticated, Can, Public},
    db::{DbError, ModuleDb},
    extract::Supervised,
    http::Problem,
    module::{Manifest, Module, Mount, MountError, Needs},
    routing::{ApiError, Created, NoContent, ProblemType, Routes, Use, Valid},
    settings::NoSettings,
    supervision::{Lifeline, Serving, SupervisedActor},
};
