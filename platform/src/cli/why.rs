//! `dotmac why`: explains why a running daemon is not ready or degraded, and what to do about it.

use std::fmt::Write as _;

use super::remedies::remedy;
use crate::{
    admin::messages::{ComponentStatus, ConnectionShare, ModuleStatus, RequestShare, Status},
    settings::enabled_key,
};

/// Whether the daemon is ready, and the explanation: for each component that is not ready its state, the last error
/// that it logged and the remedy; the names of those that only wait for one of them; each module whose work waits for
/// a database connection; what modules say of their work; and each that is off.
pub(super) fn why(status: &Status) -> (bool, String) {
    let ready = status.alive && status.status != "not_ready";
    let mut text = match (&*status.status, status.reason.as_deref()) {
        _ if !status.alive => {
            "the supervisor itself makes no progress: restart the process".to_owned()
        }
        ("ready", _) => "it is ready".to_owned(),
        ("degraded", _) => "it is ready, degraded".to_owned(),
        (_, Some("draining")) => {
            "it is not ready (draining): a drain was requested, or it is stopping; requests are still answered"
                .to_owned()
        }
        (_, reason) => format!("it is not ready{}", in_brackets(reason)),
    };
    let unwell = status.components.iter().filter(|it| is_unwell(it));
    let (waiting, causes): (Vec<_>, Vec<_>) = unwell.partition(|it| waits_for_another(it));
    for component in causes {
        // Writing to a String cannot fail.
        describe(&mut text, component).unwrap_or_default();
    }
    describe_waiting(&mut text, &waiting).unwrap_or_default();
    for module in &status.modules {
        describe_shares(&mut text, module).unwrap_or_default();
        for sentence in &module.explanations {
            write!(text, "\nmodule `{}`: {sentence}", module.name).unwrap_or_default();
        }
    }
    for module in &status.modules_off {
        let key = enabled_key(module);
        write!(text, "\nmodule `{module}` is switched off: {key}=false").unwrap_or_default();
    }
    (ready, text)
}

/// Shared resources that a module has used up.
fn describe_shares(text: &mut String, module: &ModuleStatus) -> std::fmt::Result {
    let name = &module.name;
    if let Some(ConnectionShare { used, max, waiting }) = &module.connections
        && *waiting > 0
    {
        write!(
            text,
            "\nmodule `{name}` uses {used} of its {max} database connections, and {waiting} pieces of its work wait \
             for one"
        )?;
    }
    if let Some(RequestShare {
        under_way,
        max,
        refused,
    }) = &module.requests
        && under_way >= max
    {
        write!(
            text,
            "\nmodule `{name}` has all of its {max} requests under way; further ones are refused ({refused} since the start)"
        )?;
    }
    Ok(())
}

fn is_unwell(component: &ComponentStatus) -> bool {
    component.state != "ready" && component.reason.as_deref() != Some("finished")
}

fn waits_for_another(component: &ComponentStatus) -> bool {
    component.reason.as_deref() == Some("dependency")
}

/// Names those that wait in one line: their cause is one of the others.
fn describe_waiting(text: &mut String, waiting: &[&ComponentStatus]) -> std::fmt::Result {
    if waiting.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = waiting.iter().map(|it| format!("`{}`", it.name)).collect();
    write!(
        text,
        "\nwaiting for a component that they need, and continue by themselves when it is ready: {}",
        names.join(", ")
    )
}

fn describe(text: &mut String, component: &ComponentStatus) -> std::fmt::Result {
    let need = if component.required {
        "required"
    } else {
        "optional"
    };
    let reason = component.reason.as_deref();
    write!(
        text,
        "\n`{}` ({need}) is {}{} since {}",
        component.name,
        component.state,
        in_brackets(reason),
        component.since
    )?;
    if let Some(error) = &component.last_error {
        write!(text, "\n  last error: {} ({})", error.text, error.at)?;
    }
    if let Some(remedy) = reason.and_then(remedy) {
        write!(text, "\n  what to do: {remedy}")?;
    }
    if component.state == "failed" {
        let name = &component.name;
        write!(text, "\n  then run `dotmac restart {name}`")?;
    }
    Ok(())
}

/// ` (reason)`, or nothing.
pub(super) fn in_brackets(reason: Option<&str>) -> String {
    reason
        .map(|reason| format!(" ({reason})"))
        .unwrap_or_default()
}
