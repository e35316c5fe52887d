//! `dotmac completions SHELL`: what a shell needs to complete commands and options, those of modules among them.

use clap::Args;
use clap_complete::Shell;

use crate::Exit;

/// For which shell.
#[derive(Args)]
pub(super) struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(mut parser: clap::Command, arguments: &Arguments) -> Exit {
    let name = parser.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut parser, name, &mut text);
    super::print(&String::from_utf8_lossy(&text));
    Exit::Success
}
