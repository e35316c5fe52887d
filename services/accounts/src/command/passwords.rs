//! `dotmac accounts calibrate` and `dotmac accounts breach-filter …`: what an operator prepares for passwords. They need no
//! database.

use std::{
    fs::File,
    io::{self, BufReader},
    path::PathBuf,
    time::{Duration, Instant},
};

use dotmac_platform::{Exit, settings::Setting as _};

use super::print;
use crate::{
    AccountsError, AccountsSettings,
    password::{HashParams, build_breach_filter, hash_once},
};

/// The most memory that is proposed, in KiB: as much as the setting takes.
const MOST_MEMORY: u32 = 262_144;

/// The most passes that are proposed.
const MOST_PASSES: u32 = 10;

/// A cost of password hashes.
#[derive(clap::Args)]
pub(crate) struct Calibrate {
    /// How long one hash may take on this machine, as `250ms`.
    #[arg(long, default_value = "250ms")]
    target: String,
}

/// Passwords that have been found in breaches.
#[derive(clap::Subcommand)]
pub(crate) enum BreachFilterCommand {
    /// Make the file for `DOTMAC_ACCOUNTS_BREACH_FILTER_PATH` of a list of SHA-1 hashes, such as that of Have I Been Pwned,
    /// in their order.
    Build {
        /// A hash on each line; what follows `:` is passed over. `-` is standard input.
        list: PathBuf,
        /// The file to make.
        filter: PathBuf,
    },
}

/// Measures hashes on this machine, and proposes the settings with which one takes at most the target.
pub(super) fn calibrate(settings: &AccountsSettings, command: &Calibrate) -> Result<(), Exit> {
    let Ok(target) = Duration::parse(&command.target) else {
        eprintln!("`--target` is a time with its unit, as `250ms`");
        return Err(Exit::Usage);
    };
    let failed = |error: AccountsError| {
        eprintln!("{error}");
        Exit::Failure
    };
    let mut cost = HashParams {
        m: 19_456,
        t: 2,
        p: settings.argon2_p,
    };
    let mut took = measured(cost).map_err(failed)?;
    if took > target {
        print(format_args!(
            "the least that is allowed takes {} ms here, which is more than {}",
            took.as_millis(),
            command.target
        ));
    }
    // Memory first, which costs an attacker the most.
    while cost.m < MOST_MEMORY {
        let more = HashParams {
            m: (cost.m + cost.m / 4).min(MOST_MEMORY),
            ..cost
        };
        let time = measured(more).map_err(failed)?;
        if time > target {
            break;
        }
        (cost, took) = (more, time);
    }
    while cost.m == MOST_MEMORY && cost.t < MOST_PASSES {
        let more = HashParams {
            t: cost.t + 1,
            ..cost
        };
        let time = measured(more).map_err(failed)?;
        if time > target {
            break;
        }
        (cost, took) = (more, time);
    }
    print(format_args!("DOTMAC_ACCOUNTS_ARGON2_M={}", cost.m));
    print(format_args!("DOTMAC_ACCOUNTS_ARGON2_T={}", cost.t));
    print(format_args!("DOTMAC_ACCOUNTS_ARGON2_P={}", cost.p));
    eprintln!(
        "one hash takes {} ms and {} MiB here, on each of {} threads",
        took.as_millis(),
        cost.m / 1024,
        settings.hash_threads
    );
    Ok(())
}

/// The shorter of two hashes: the first one also takes its memory from the system.
fn measured(cost: HashParams) -> Result<Duration, AccountsError> {
    let mut least = Duration::MAX;
    for _ in 0..2 {
        let began = Instant::now();
        hash_once("a password of usual length", cost)?;
        least = least.min(began.elapsed());
    }
    Ok(least)
}

/// Does what is to be done about breached passwords.
pub(super) fn breach_filter(command: BreachFilterCommand) -> Result<(), Exit> {
    let BreachFilterCommand::Build { list, filter } = command;
    let built = if list.as_os_str() == "-" {
        build_breach_filter(io::stdin().lock(), &filter)
    } else {
        File::open(&list).and_then(|file| build_breach_filter(BufReader::new(file), &filter))
    };
    match built {
        Ok(built) => {
            print(format_args!(
                "{}: {} entries, {} bytes",
                filter.display(),
                built.entries,
                built.bytes
            ));
            Ok(())
        }
        Err(error) => {
            eprintln!("{}: {error}", list.display());
            Err(Exit::Failure)
        }
    }
}
