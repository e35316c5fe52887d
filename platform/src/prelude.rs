//! The imports of a module: `use dotmac_platform::prelude::*`.
//!
//! Of the macros it has [`rows!`]; the others are named by their paths: [`settings!`](crate::settings!), [`permissions!`](crate::permissions!),
//! [`migrations!`](crate::migrations!), [`on!`](crate::on!), [`build_info!`](crate::build_info!).

pub use actix_web::web::{Json, Path};

pub use crate::{
    Platform,
    access::{Authenticated, Can, Public},
    db::{
        DbError, ModuleDb,
        types::{Id, Moment},
    },
    http::Problem,
    module::{Manifest, Module, Mount, MountError, Needs},
    routing::{
        Accepted, ApiError, Change, Created, CursorScope, Idempotency, IfMatch, NoContent, Page,
        Paging, ProblemType, Query, RateLimit, Routes, Rows, Sort, Use, Valid, Versioned,
    },
    rows,
    settings::{Live, NoSettings},
    supervised::Supervised,
    supervision::{Lifeline, Schedule, Serving, SupervisedActor},
};
