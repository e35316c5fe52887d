//! clap's error about a command line, with quoted text kept within its line.
//!
//! clap prints arguments as they are: control characters would reach the operator's terminal, and a long argument would
//! push everything else off it.

use clap::{
    Error,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    Exit,
    shown::{in_line, in_lines, quotable},
};

/// Prints why there is nothing to carry out: a mistake, or that help or the version was asked for.
pub(super) fn print(refusal: Error) -> Exit {
    if !refusal.use_stderr() {
        // A closed terminal is no reason to fail.
        refusal.print().ok();
        return Exit::Success;
    }
    let refusal = quoting_safely(refusal);
    let text = refusal.render().to_string();
    let safe = in_lines(&text);
    // Messages of a module's own argument parser are not quoted text.
    if safe == text {
        refusal.print().ok();
    } else {
        eprint!("{safe}");
    }
    Exit::Usage
}

/// The same with each text of the command line escaped and cut.
fn quoting_safely(mut refusal: Error) -> Error {
    let context: Vec<_> = refusal
        .context()
        .map(|(kind, value)| (kind, value.clone()))
        .collect();
    let is_unknown = refusal.kind() == ErrorKind::UnknownArgument;
    for (kind, value) in context {
        let quote = |text: &str| match kind {
            ContextKind::InvalidValue | ContextKind::InvalidSubcommand => quotable(text),
            ContextKind::InvalidArg if is_unknown && !text.starts_with('-') => quotable(text),
            _ => in_line(text),
        };
        let value = match value {
            ContextValue::String(text) => ContextValue::String(quote(&text)),
            ContextValue::Strings(texts) => {
                ContextValue::Strings(texts.iter().map(|text| quote(text)).collect())
            }
            ContextValue::StyledStrs(tips) if kind == ContextKind::Suggested => {
                let tip = |tip: StyledStr| StyledStr::from(quote(&tip.to_string()));
                ContextValue::StyledStrs(tips.into_iter().map(tip).collect())
            }
            // The usage, and numbers: nothing of the command line.
            _ => continue,
        };
        refusal.insert(kind, value);
    }
    refusal
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    fn said(arguments: &[&str]) -> String {
        let command = Command::new("program")
            .subcommand(Command::new("serve"))
            .arg(Arg::new("password").long("password").required(true))
            .arg(
                Arg::new("time")
                    .long("time")
                    .value_parser(humantime::parse_duration),
            );
        let refusal = command.try_get_matches_from(arguments);
        refusal.err().map_or_else(String::new, |refusal| {
            in_lines(&quoting_safely(refusal).render().to_string())
        })
    }

    #[test]
    fn what_is_quoted_is_escaped_and_cut() {
        let long = "x".repeat(100_000);
        let option = format!("--{long}");
        for arguments in [
            ["program", "\u{1b}[31mdance"],
            ["program", "--\u{1b}[31mdance"],
            ["program", "--time=1\u{1b}[31mdance"],
            ["program", &long],
            ["program", &option],
        ] {
            let said = said(&arguments);
            assert!(said.starts_with("error: "), "{said:?}");
            assert!(!said.contains('\u{1b}') && said.len() < 1000, "{said:?}");
        }
    }

    #[test]
    fn a_password_is_not_quoted_and_the_name_of_an_option_is() {
        for argument in ["postgres://dotmac:hunter2@db.example", "password=hunter2"] {
            let said = said(&["program", argument]);
            assert!(!said.contains("hunter2"), "{said}");
        }
        assert!(said(&["program"]).contains("--password <password>"));
    }
}
