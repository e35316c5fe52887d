//! Settings with a closed set of values: our own, and those of the actors.

use dotmac_db::{MigrateMode, SslMode};
use dotmac_secrets::KvVersion;
use dotmac_telemetry::{Compression, Protocol};

/// Declares an enum that is a [`Setting`](crate::settings::Setting): its values are written as the given words,
/// in any case.
///
/// ```
/// use dotmac_platform::settings::Setting;
///
/// dotmac_platform::choice! {
///     /// Where files are kept.
///     pub enum Provider {
///         /// In a directory.
///         Local = "local",
///         /// In an object store.
///         S3 = "s3",
///     }
/// }
///
/// assert!(matches!(Provider::parse("S3"), Ok(Provider::S3)));
/// assert_eq!(Provider::expected(), "one of local, s3");
/// ```
#[macro_export]
macro_rules! choice {
    // The words of an enum of another crate.
    (@words $type:ident { $($variant:ident = $word:literal,)+ }) => {
        impl $crate::settings::Setting for $type {
            const EXAMPLE: &'static str = Self::VALUES[0];
            const VALUES: &'static [&'static str] = &[$($word),+];

            fn expected() -> ::std::string::String {
                ::std::format!("one of {}", Self::VALUES.join(", "))
            }

            fn parse(text: &str) -> ::std::result::Result<Self, $crate::settings::Invalid> {
                match text.to_ascii_lowercase().as_str() {
                    $($word => ::std::result::Result::Ok(Self::$variant),)+
                    _ => ::std::result::Result::Err($crate::settings::Invalid::plain()),
                }
            }
        }
    };
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// The word that an operator writes.
            $visibility const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        $crate::choice!(@words $name { $($variant = $word,)+ });
    };
}

crate::choice! {
    /// The purpose of an installation.
    pub enum Environment {
        /// A developer's machine: friendly defaults, nothing refused.
        Development = "development",
        /// Like production, but for rehearsal.
        Staging = "staging",
        /// The real thing: what is unsafe is refused.
        Production = "production",
        /// An automated test.
        Test = "test",
    }
}

crate::choice! {
    /// How the daemon proves to Vault who it is.
    pub enum VaultAuth {
        /// A token of another party.
        Token = "token",
        /// A role id with a secret id.
        AppRole = "approle",
        /// The token of a Kubernetes service account.
        Kubernetes = "kubernetes",
        /// A JWT that an issuer signed.
        Jwt = "jwt",
        /// A TLS client certificate.
        Cert = "cert",
    }
}

crate::choice! {
    /// How a log line is written.
    pub enum LogFormat {
        /// For a person at a terminal.
        Pretty = "pretty",
        /// One JSON object a line.
        Json = "json",
    }
}

crate::choice!(@words KvVersion { Auto = "auto", V1 = "1", V2 = "2", });
// libpq's words.
crate::choice!(@words SslMode {
    Disable = "disable",
    Prefer = "prefer",
    Require = "require",
    VerifyCa = "verify-ca",
    VerifyFull = "verify-full",
});
crate::choice!(@words MigrateMode { Auto = "auto", Check = "check", Off = "off", });
crate::choice!(@words Compression { None = "none", Gzip = "gzip", });
crate::choice!(@words Protocol { Grpc = "grpc", Http = "http", });
