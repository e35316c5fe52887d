//! Settings with a closed set of values.

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

        impl $crate::settings::Setting for $name {
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
    /// Version of Vault's key-value engine.
    pub enum KvVersion {
        /// Found out from Vault.
        Auto = "auto",
        /// Without versions.
        V1 = "1",
        /// With versions.
        V2 = "2",
    }
}

crate::choice! {
    /// How a connection to PostgreSQL is encrypted, from least to most. The words are libpq's.
    pub enum SslMode {
        /// Never encrypted.
        Disable = "disable",
        /// Encrypted if the server supports it, without a check of its certificate.
        Prefer = "prefer",
        /// Encrypted, without a check of the certificate.
        Require = "require",
        /// Encrypted, the certificate signed by a trusted authority.
        VerifyCa = "verify-ca",
        /// As `verify-ca`, and the certificate names the host.
        VerifyFull = "verify-full",
    }
}

impl SslMode {
    /// Whether this mode never lets a connection go on in the clear.
    pub const fn is_encrypted(self) -> bool {
        !matches!(self, Self::Disable | Self::Prefer)
    }
}

crate::choice! {
    /// The handling of the database schema at the start.
    pub enum Migrate {
        /// Pending migrations are run.
        Auto = "auto",
        /// Pending migrations keep the database from being ready.
        Check = "check",
        /// The schema is not looked at.
        Off = "off",
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

crate::choice! {
    /// How what is sent to the collector is made smaller.
    pub enum OtlpCompression {
        /// Not at all.
        None = "none",
        /// By gzip.
        Gzip = "gzip",
    }
}

crate::choice! {
    /// How telemetry travels to the collector.
    pub enum OtlpProtocol {
        /// gRPC, usually port 4317.
        Grpc = "grpc",
        /// Protobuf over HTTP, usually port 4318.
        Http = "http",
    }
}
