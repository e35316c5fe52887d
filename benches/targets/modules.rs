//! The cost of an empty module: this program as a platform with sixteen of them or with none.

use std::{process::ExitCode, time::Duration};

use dotmac_platform::prelude::*;

use crate::{
    process::Measured,
    report::{Report, median},
};

/// Variable that turns this program into the platform: with modules if there is a [`WITH`] too.
pub const ASKED: &str = "EMPTY_MODULES";
const WITH: &str = "EMPTY_MODULES_MOUNTED";
const COUNT: f64 = 16.0;
const ROUNDS: usize = 7;

macro_rules! empty {
    ($($module:ident $name:literal)*) => {
        $(
            struct $module;

            impl Module for $module {
                const NAME: &'static str = $name;
                type Settings = NoSettings;

                fn mount(_: NoSettings, _: &mut Mount<'_>) -> Result<(), MountError> {
                    Ok(())
                }
            }
        )*

        fn mounted(platform: Platform) -> Platform {
            platform$(.module::<$module>())*
        }
    };
}

empty! {
    A "empty_a" B "empty_b" C "empty_c" D "empty_d" E "empty_e" F "empty_f" G "empty_g" H "empty_h"
    I "empty_i" J "empty_j" K "empty_k" L "empty_l" M "empty_m" N "empty_n" O "empty_o" P "empty_p"
}

pub fn asked_for() -> bool {
    std::env::var_os(ASKED).is_some()
}

pub fn serve() -> ExitCode {
    let platform = Platform::new("modules", env!("CARGO_PKG_VERSION"));
    if std::env::var_os(WITH).is_some() {
        mounted(platform).main()
    } else {
        platform.main()
    }
}

/// Resident memory in MiB after some seconds without work.
async fn idle(settings: &[(&str, String)]) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let platform = Measured::this_program(directory.path(), ASKED, settings);
    platform.until("/ready");
    tokio::time::sleep(Duration::from_secs(2)).await;
    platform.memory()
}

pub async fn measure(report: &mut Report) {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(idle(&[]).await);
        with.push(idle(&[(WITH, "yes".to_owned())]).await);
    }
    let spread = without.iter().copied().fold(0.0, f64::max)
        - without.iter().copied().fold(f64::INFINITY, f64::min);
    let more = median(&mut with) - median(&mut without);
    report.row(
        "idle memory of 16 modules with nothing in them",
        "no more than runs without them differ by",
        format!("{:.2} MiB, {:.0} KiB each", more, more * 1024.0 / COUNT),
        format!("runs without them differ by {spread:.2} MiB"),
        more <= spread,
    );
}
