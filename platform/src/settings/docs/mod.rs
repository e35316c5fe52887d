//! `docs/settings.md` and `deploy/dotmac.env.example`, generated from the tables of the groups.
//!
//! Both are in the repository, and a test compares them with what is generated here.
//! `UPDATE_GENERATED=1 cargo test` writes them anew.

mod effective;

use std::fmt::Write as _;

use crate::settings::engine::group::{DefaultText, GroupSpec, KeySpec};
use crate::settings::groups;

pub use effective::{Row, as_env, as_json, as_table};

/// Columns after which a comment in the example is broken.
const COMMENT_COLUMNS: usize = 100;

const INTRODUCTION: &str = include_str!("introduction.md");

const EXAMPLE_INTRODUCTION: &str = "\
# Every setting of dotmac, with its default. docs/settings.md explains where values may come from.
# Generated from platform/src/settings/groups: change the doc comments there.
#
# For development, copy to .env; for systemd, to the EnvironmentFile of the unit; for containers,
# to the env_file of the service. Give secrets by the _FILE twin of their key where you can.
";

/// The text of `docs/settings.md`.
pub fn settings_markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for group in groups::ALL {
        section(&mut text, group).unwrap_or_default(); // writing to a String cannot fail
    }
    text
}

fn section(text: &mut String, group: &GroupSpec) -> std::fmt::Result {
    writeln!(text, "\n## {}\n\n{}\n", group.title, group.doc())?;
    writeln!(
        text,
        "| key | default | meaning | values | else taken from | change |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|")?;
    for spec in group.keys {
        let cells = [
            format!("`{}`", spec.key()),
            default_in_words(spec),
            spec.doc(),
            values(spec),
            otherwise(spec),
            if spec.live { "live" } else { "restart" }.to_owned(),
        ];
        writeln!(
            text,
            "| {} |",
            cells.map(|cell| cell.replace('|', r"\|")).join(" | ")
        )?;
    }
    Ok(())
}

fn default_in_words(spec: &KeySpec) -> String {
    match spec.default {
        DefaultText::Unset => "–".to_owned(),
        DefaultText::Fixed(text) => format!("`{text}`"),
        DefaultText::Computed { described, .. } => described.to_owned(),
    }
}

fn values(spec: &KeySpec) -> String {
    if spec.kind.values.is_empty() {
        spec.expected()
    } else {
        spec.kind
            .values
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

fn otherwise(spec: &KeySpec) -> String {
    let fallbacks = spec
        .fallbacks
        .iter()
        .map(|fallback| format!("`{}`", fallback.name));
    let vault = spec.vault.map(|path| format!("Vault: `{path}`"));
    let all: Vec<String> = fallbacks.chain(vault).collect();
    if all.is_empty() {
        "–".to_owned()
    } else {
        all.join(", ")
    }
}

/// The text of `deploy/dotmac.env.example`.
pub fn env_example() -> String {
    let mut text = EXAMPLE_INTRODUCTION.to_owned();
    for group in groups::ALL {
        example_section(&mut text, group).unwrap_or_default(); // writing to a String cannot fail
    }
    text
}

fn example_section(text: &mut String, group: &GroupSpec) -> std::fmt::Result {
    writeln!(text, "\n\n# ---- {}: {}", group.title, group.doc())?;
    for spec in group.keys {
        writeln!(text)?;
        let default = match spec.default {
            DefaultText::Computed { described, .. } => format!(" Default: {described}."),
            _ => String::new(),
        };
        comment(text, &format!("{}{default}", spec.doc()).replace('`', ""))?;
        let value = match spec.default {
            DefaultText::Fixed(value) => value,
            _ => "",
        };
        writeln!(text, "#{}={value}", spec.key())?;
    }
    Ok(())
}

/// Writes `sentence` as a comment, broken between words.
fn comment(text: &mut String, sentence: &str) -> std::fmt::Result {
    let mut line = String::from("#");
    for word in sentence.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COMMENT_COLUMNS {
            writeln!(text, "{line}")?;
            line = String::from("#");
        }
        write!(line, " {word}")?;
    }
    writeln!(text, "{line}")
}
