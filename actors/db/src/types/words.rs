//! Columns that hold one of a few words.

/// A word that is none of those of its set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is none of {words}")]
pub struct UnknownWord {
    word: String,
    words: String,
}

impl UnknownWord {
    /// `word` is none of `words`.
    #[must_use]
    pub fn new(word: &str, words: &[&str]) -> Self {
        Self {
            word: word.to_owned(),
            words: words.join(", "),
        }
    }
}

/// Declares an enum whose variants are words: a column of type `TEXT` on both back ends, `Display`, and `FromStr` with
/// [`UnknownWord`](crate::types::UnknownWord). `ALL` has the variants, `as_str` the word of one.
///
/// Other traits are derived by the attributes that are given: for JSON `Serialize`, with `rename_all = "snake_case"` if the
/// words are the variants' names. The crate that calls it depends on `diesel`.
///
/// ```
/// dotmac_db::words! {
///     /// Whether an endpoint gets deliveries.
///     pub enum EndpointState {
///         /// It does.
///         Active = "active",
///         /// Deliveries are made and kept.
///         Paused = "paused",
///     }
/// }
///
/// assert_eq!("paused".parse(), Ok(EndpointState::Paused));
/// let unknown = "sent".parse::<EndpointState>().map_err(|error| error.to_string());
/// assert_eq!(unknown, Err("`sent` is none of active, paused".to_owned()));
/// ```
#[macro_export]
macro_rules! words {
    ($(#[$meta:meta])* $visibility:vis enum $name:ident {
        $($(#[$on_variant:meta])* $variant:ident = $word:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(
            ::diesel::expression::AsExpression, ::diesel::deserialize::FromSqlRow, Clone, Copy, Debug, PartialEq, Eq, Hash,
            PartialOrd, Ord,
        )]
        #[diesel(sql_type = ::diesel::sql_types::Text)]
        $visibility enum $name {
            $($(#[$on_variant])* $variant),+
        }

        impl $name {
            /// All of them, in their order.
            $visibility const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its word.
            #[must_use]
            $visibility const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::types::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::types::UnknownWord::new(word, &[$($word),+])),
                }
            }
        }

        impl ::diesel::serialize::ToSql<::diesel::sql_types::Text, ::diesel::pg::Pg> for $name {
            fn to_sql<'b>(
                &'b self,
                out: &mut ::diesel::serialize::Output<'b, '_, ::diesel::pg::Pg>,
            ) -> ::diesel::serialize::Result {
                ::std::io::Write::write_all(out, self.as_str().as_bytes())?;
                Ok(::diesel::serialize::IsNull::No)
            }
        }

        impl ::diesel::serialize::ToSql<::diesel::sql_types::Text, ::diesel::sqlite::Sqlite> for $name {
            fn to_sql<'b>(
                &'b self,
                out: &mut ::diesel::serialize::Output<'b, '_, ::diesel::sqlite::Sqlite>,
            ) -> ::diesel::serialize::Result {
                out.set_value(self.as_str());
                Ok(::diesel::serialize::IsNull::No)
            }
        }

        impl<DB: ::diesel::backend::Backend>
            ::diesel::deserialize::FromSql<::diesel::sql_types::Text, DB> for $name
        where
            String: ::diesel::deserialize::FromSql<::diesel::sql_types::Text, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> ::diesel::deserialize::Result<Self> {
                let word = <String as ::diesel::deserialize::FromSql<
                    ::diesel::sql_types::Text, DB,
                >>::from_sql(bytes)?;
                Ok(word.parse()?)
            }
        }
    };
}
