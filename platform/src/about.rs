//! Name, version and build of this program, for all parts that show them.

/// Which build of a program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// The revision in version control, if it is known.
    pub revision: Option<&'static str>,
    /// When it was built (RFC 3339, UTC), if it is known.
    pub time: Option<&'static str>,
}

/// The build of the calling crate, from the variables `DOTMAC_BUILD_REVISION` and `DOTMAC_BUILD_TIME` at its compilation.
///
/// A build script sets them (see `build.rs` of the daemon), or the build of the image.
#[macro_export]
macro_rules! build_info {
    () => {
        $crate::Build {
            revision: option_env!("DOTMAC_BUILD_REVISION"),
            time: option_env!("DOTMAC_BUILD_TIME"),
        }
    };
}

/// A program by name, version and build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) build: Build,
}

impl About {
    /// The labels of `dotmac_build_info` besides the version.
    pub(crate) fn labels(&self) -> Vec<(String, String)> {
        let label =
            |name: &str, value: Option<&'static str>| Some((name.to_owned(), value?.to_owned()));
        let labels = [
            label("program", Some(self.name)),
            label("revision", self.build.revision),
            label("built", self.build.time),
        ];
        labels.into_iter().flatten().collect()
    }

    /// The build in the OpenTelemetry resource, besides name and version.
    pub(crate) fn attributes(&self) -> Vec<(String, String)> {
        let known =
            |name: &str, value: Option<&'static str>| Some((name.to_owned(), value?.to_owned()));
        let attributes = [
            known("vcs.ref.head.revision", self.build.revision),
            known("dotmac.build.time", self.build.time),
        ];
        attributes.into_iter().flatten().collect()
    }

    /// What the journal has of the start of this process: `greeter 0.7.3 (3f2c1ab), pid 4711`.
    pub(crate) fn process(&self) -> String {
        format!(
            "{} {}, pid {}",
            self.name,
            self.long_version(),
            std::process::id()
        )
    }

    /// `0.7.3 (3f2c1ab, 2026-11-28T12:00:00Z)`, without what is not known.
    pub(crate) fn long_version(&self) -> String {
        let known: Vec<_> = [self.build.revision, self.build.time]
            .into_iter()
            .flatten()
            .collect();
        if known.is_empty() {
            self.version.to_owned()
        } else {
            format!("{} ({})", self.version, known.join(", "))
        }
    }
}
