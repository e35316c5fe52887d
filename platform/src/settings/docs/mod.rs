//! The documentation of the settings for operators, generated from the declarations of the groups: documentation, an
//! example of an environment file, and the values in effect.
//!
//! `docs/settings.md` and `deploy/dotmac.env.example` are kept in the repository, and a test compares them
//! with what is generated here; [`assert_generated`] and its neighbours do the same for a service.

mod effective;
mod in_step;

use std::fmt::Write as _;

use super::Catalogue;
use super::engine::catalogue::ModuleGroup;
use super::engine::declare::DefaultText;
use super::engine::group::{GroupSpec, KeySpec};
use super::groups;

pub use effective::{Row, as_env, as_json, as_table};
#[cfg(test)]
pub(crate) use in_step::in_step;
pub use in_step::{assert_documented, assert_example, assert_generated};

/// Columns after which a comment in the example is broken.
const COMMENT_COLUMNS: usize = 100;

const INTRODUCTION: &str = include_str!("introduction.md");

const EXAMPLE_INTRODUCTION: &str = "\
# Every setting of {program}, with its default. `{program} config --format markdown` explains where
# values may come from. Generated from the declarations of the settings: change the doc comments there.
#
# For development, copy to .env; for systemd, to the EnvironmentFile of the unit; for containers,
# to the env_file of the service. Give secrets by the _FILE twin of their key where you can.
";

/// A group as it is documented: its title, what is said of it, and its keys.
struct Section {
    title: &'static str,
    doc: String,
    keys: Vec<KeySpec>,
}

impl Section {
    /// Of a group of the platform.
    fn own(group: &'static GroupSpec, catalogue: &Catalogue) -> Self {
        Self {
            title: group.title,
            doc: group.doc(),
            keys: catalogue.own_keys(group).collect(),
        }
    }
}

impl From<&ModuleGroup> for Section {
    fn from(module: &ModuleGroup) -> Self {
        let doc = module.spec.doc();
        Self {
            title: module.title(),
            doc: match doc.as_str() {
                "" => format!("The module `{}` has no settings of its own.", module.name),
                _ => doc,
            },
            keys: module.keys().collect(),
        }
    }
}

/// Those of the whole catalogue, or of one module of it; none if it has no such module.
fn sections(catalogue: &Catalogue, module: Option<&str>) -> Vec<Section> {
    let modules = catalogue.module_groups().iter();
    match module {
        None => {
            let own = groups::ALL.into_iter();
            let own = own.map(|group| Section::own(group, catalogue));
            own.chain(modules.map(Section::from)).collect()
        }
        Some(name) => modules
            .filter(|module| module.name == name)
            .map(Section::from)
            .collect(),
    }
}

/// The documentation of every setting of `program`, in Markdown; of one module alone, without the
/// introduction, if `module` names one.
#[must_use]
pub fn markdown(program: &str, catalogue: &Catalogue, module: Option<&str>) -> String {
    let mut text = match module {
        None => INTRODUCTION.replace("{program}", program),
        Some(_) => String::new(),
    };
    for section in sections(catalogue, module) {
        write_section(&mut text, &section).unwrap_or_default(); // writing to a String cannot fail
    }
    text
}

fn write_section(text: &mut String, section: &Section) -> std::fmt::Result {
    if !text.is_empty() {
        writeln!(text)?;
    }
    writeln!(text, "## {}\n\n{}\n", section.title, section.doc)?;
    writeln!(
        text,
        "| key | default | meaning | values | else taken from | change |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|")?;
    for spec in &section.keys {
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
        DefaultText::Unset if spec.is_needed() => "needed".to_owned(),
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

/// An environment file with every setting of `program` as a comment; with those of one module alone if
/// `module` names one.
#[must_use]
pub fn env_example(program: &str, catalogue: &Catalogue, module: Option<&str>) -> String {
    let mut text = match module {
        None => EXAMPLE_INTRODUCTION.replace("{program}", program),
        Some(_) => String::new(),
    };
    for section in sections(catalogue, module) {
        example_section(&mut text, &section).unwrap_or_default(); // writing to a String cannot fail
    }
    text
}

fn example_section(text: &mut String, section: &Section) -> std::fmt::Result {
    if !text.is_empty() {
        writeln!(text, "\n")?;
    }
    writeln!(text, "# ---- {}: {}", section.title, section.doc)?;
    for spec in &section.keys {
        writeln!(text)?;
        let default = match spec.default {
            DefaultText::Computed { described, .. } => format!(" Default: {described}."),
            _ if spec.is_needed() => " Needed.".to_owned(),
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
