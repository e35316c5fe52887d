//! Permissions: names that are types, and sets of them that are cheap to ask.
//!
//! A name is `area.resource.action`. Each name that a program declares gets a bit, so a check is a bit test.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Permissions that one program can declare.
pub const MAX_PERMISSIONS: usize = 512;

const WORDS: usize = MAX_PERMISSIONS / 64;

/// Every permission that was declared; its place is its bit.
static DECLARED: Mutex<Vec<PermissionSpec>> = Mutex::new(Vec::new());

/// Bits of the permissions that are for those who operate the program, and for no other tenant.
static OPERATORS: Mutex<[u64; WORDS]> = Mutex::new([0; WORDS]);

/// A permission as a type, made by [`permissions!`](crate::permissions), for [`Can`](super::Can).
pub trait Permission: 'static {
    /// Its description for operators and clients.
    const SPEC: PermissionSpec;

    /// Its bit, looked up once; `None` if there are [`MAX_PERMISSIONS`] others.
    fn bit() -> Option<usize>;
}

/// A permission as operators and clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermissionSpec {
    /// `area.resource.action`; the area is the module's name.
    pub name: &'static str,
    /// The allowed action, in a sentence.
    pub description: &'static str,
}

impl PermissionSpec {
    /// Whether the name is `area.resource.action`, each in lower case letters, digits and `_`.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let is_word = |word: &str| {
            word.starts_with(|first: char| first.is_ascii_lowercase())
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        self.name.split('.').count() == 3 && self.name.split('.').all(is_word)
    }

    /// The module that declares it.
    #[must_use]
    pub fn area(&self) -> &'static str {
        self.name.split('.').next().unwrap_or_default()
    }
}

/// The permissions of a principal: a set of declared permissions.
///
/// ```
/// use dotmac_platform::access::PermissionSet;
///
/// dotmac_platform::permissions! {
///     /// Read notes.
///     pub Read = "notes.notes.read";
///     /// Change notes.
///     pub Write = "notes.notes.write";
/// }
/// # fn main() {
/// let mut reader = PermissionSet::default();
/// PERMISSIONS.iter().for_each(|permission| _ = permission.declare());
/// reader.grant("notes.notes.*");
/// reader.deny("notes.notes.write");
/// assert!(reader.has::<Read>() && !reader.has::<Write>());
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PermissionSet {
    granted: [u64; WORDS],
    denied: [u64; WORDS],
}

impl PermissionSet {
    /// Every permission that has been declared so far.
    #[must_use]
    pub fn all() -> Self {
        let mut all = Self::default();
        all.grant("*");
        all
    }

    /// Adds the declared permissions that `pattern` names: a whole name, or one whose last segment is `*`
    /// (`notes.notes.*`, `notes.*`, `*`). Says how many that are; 0 for a name that nothing declares.
    pub fn grant(&mut self, pattern: &str) -> usize {
        mark(&mut self.granted, pattern)
    }

    /// Denies the permissions of `pattern`, regardless of grants before or after. Says how many that are.
    pub fn deny(&mut self, pattern: &str) -> usize {
        mark(&mut self.denied, pattern)
    }

    /// Denies the permissions for operators of the program ([`Manifest::operator_permissions`]): an authenticator does
    /// so for every tenant except theirs, regardless of the tenant's roles.
    ///
    /// [`Manifest::operator_permissions`]: crate::module::Manifest::operator_permissions
    pub fn deny_those_of_operators(&mut self) {
        let operators = OPERATORS.lock().unwrap_or_else(PoisonError::into_inner);
        for (denied, operators) in self.denied.iter_mut().zip(*operators) {
            *denied |= operators;
        }
    }

    /// Whether `P` is granted and not denied.
    #[must_use]
    pub fn has<P: Permission>(&self) -> bool {
        P::bit().is_some_and(|bit| self.has_bit(bit))
    }

    /// Whether the permission of that name is granted and not denied.
    #[must_use]
    pub fn has_named(&self, name: &str) -> bool {
        let bit = declared().iter().position(|known| known.name == name);
        bit.is_some_and(|bit| self.has_bit(bit))
    }

    /// The permissions in both sets: a key never has more than its owner.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for word in 0..WORDS {
            both.granted[word] = self.granted[word] & other.granted[word];
            both.denied[word] = self.denied[word] | other.denied[word];
        }
        both
    }

    /// Whether everything in `other` is in this set too: callers cannot grant permissions that they lack.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        (0..MAX_PERMISSIONS).all(|bit| !other.has_bit(bit) || self.has_bit(bit))
    }

    /// The names in it, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.specs().iter().map(|spec| spec.name).collect()
    }

    /// The permissions in it with their descriptions, sorted by name.
    #[must_use]
    pub fn specs(&self) -> Vec<PermissionSpec> {
        let known = declared();
        let held = known
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.has_bit(*bit));
        let mut held: Vec<_> = held.map(|(_, spec)| *spec).collect();
        held.sort_unstable_by_key(|spec| spec.name);
        held
    }

    pub(super) fn has_bit(&self, bit: usize) -> bool {
        let (word, mask) = (bit / 64, 1 << (bit % 64));
        self.granted[word] & mask != 0 && self.denied[word] & mask == 0
    }
}

impl PermissionSpec {
    /// Makes the permission known, so that it can be granted. Says its bit; `None` if there are
    /// [`MAX_PERMISSIONS`] already.
    pub fn declare(&self) -> Option<usize> {
        let mut declared = declared();
        if let Some(bit) = declared.iter().position(|known| known.name == self.name) {
            return Some(bit);
        }
        if declared.len() == MAX_PERMISSIONS {
            return None;
        }
        declared.push(*self);
        Some(declared.len() - 1)
    }

    /// Whether it is for those who operate the program, and for no other tenant.
    #[must_use]
    pub fn is_for_operators(&self) -> bool {
        let bit = declared().iter().position(|known| known.name == self.name);
        let operators = OPERATORS.lock().unwrap_or_else(PoisonError::into_inner);
        bit.is_some_and(|bit| operators[bit / 64] & (1 << (bit % 64)) != 0)
    }

    /// Makes it known as one for those who operate the program. Says its bit, as [`Self::declare`] does.
    pub fn declare_for_operators(&self) -> Option<usize> {
        let bit = self.declare()?;
        let mut operators = OPERATORS.lock().unwrap_or_else(PoisonError::into_inner);
        operators[bit / 64] |= 1 << (bit % 64);
        Some(bit)
    }
}

fn mark(words: &mut [u64; WORDS], pattern: &str) -> usize {
    let declared = declared();
    let matching = declared
        .iter()
        .enumerate()
        .filter(|(_, spec)| matches(pattern, spec.name));
    matching
        .map(|(bit, _)| words[bit / 64] |= 1 << (bit % 64))
        .count()
}

/// `*` counts as the whole last segment only.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        None => pattern == name,
        Some("") => true,
        Some(prefix) => prefix.ends_with('.') && !prefix.contains('*') && name.starts_with(prefix),
    }
}

fn declared() -> MutexGuard<'static, Vec<PermissionSpec>> {
    DECLARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Declares permissions: a type for each, to be used as `Can<Read>`, and `PERMISSIONS`, the list for the
/// [`Manifest`](crate::module::Manifest).
///
/// ```
/// dotmac_platform::permissions! {
///     /// Read notes.
///     pub Read = "notes.notes.read";
///     /// Change notes.
///     pub Write = "notes.notes.write";
/// }
/// # fn main() { assert_eq!(PERMISSIONS.len(), 2); }
/// ```
#[macro_export]
macro_rules! permissions {
    ($($(#[doc = $doc:literal])+ $visibility:vis $permission:ident = $name:literal;)+) => {
        $(
            $(#[doc = $doc])+
            $visibility enum $permission {}

            impl $crate::access::Permission for $permission {
                const SPEC: $crate::access::PermissionSpec = $crate::access::PermissionSpec {
                    name: $name,
                    description: concat!($($doc),+),
                };

                fn bit() -> Option<usize> {
                    static BIT: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
                    *BIT.get_or_init(|| <Self as $crate::access::Permission>::SPEC.declare())
                }
            }
        )+

        /// Every permission that is declared here.
        pub(crate) const PERMISSIONS: &[$crate::access::PermissionSpec] =
            &[$(<$permission as $crate::access::Permission>::SPEC),+];
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_counts_as_the_last_segment_only() {
        for (pattern, is_match) in [
            ("notes.notes.read", true),
            ("notes.notes.*", true),
            ("notes.*", true),
            ("*", true),
            ("notes.notes.write", false),
            ("note*", false),
            ("*.notes.read", false),
            ("notes.*.read", false),
            ("notes", false),
            ("", false),
        ] {
            assert_eq!(matches(pattern, "notes.notes.read"), is_match, "{pattern}");
        }
    }

    #[test]
    fn a_denial_wins_and_nothing_undeclared_is_granted() {
        let spec = |name| PermissionSpec {
            name,
            description: "",
        };
        for name in [
            "alpha.things.read",
            "alpha.things.write",
            "beta.things.read",
        ] {
            assert!(spec(name).declare().is_some());
        }
        let mut set = PermissionSet::default();
        assert_eq!(set.grant("alpha.*"), 2);
        assert_eq!(set.grant("gamma.things.read"), 0);
        set.deny("alpha.things.write");
        set.grant("alpha.things.write");
        assert_eq!(set.names(), ["alpha.things.read"]);
        assert!(PermissionSet::all().covers(&set) && !set.covers(&PermissionSet::all()));
    }

    #[test]
    fn what_is_for_operators_can_be_taken_away_whatever_grants_it() {
        let spec = |name| PermissionSpec {
            name,
            description: "",
        };
        assert!(spec("delta.things.read").declare().is_some());
        assert!(spec("delta.queues.pause").declare_for_operators().is_some());
        assert!(spec("delta.queues.pause").is_for_operators());
        assert!(!spec("delta.things.read").is_for_operators());
        assert!(!spec("delta.unknown.read").is_for_operators());
        let mut set = PermissionSet::default();
        assert_eq!(set.grant("delta.*"), 2);
        set.deny_those_of_operators();
        set.grant("delta.queues.pause");
        assert_eq!(set.names(), ["delta.things.read"]);
    }

    #[test]
    fn names_have_three_words() {
        let is_well_formed = |name| {
            PermissionSpec {
                name,
                description: "",
            }
            .is_well_formed()
        };
        assert!(is_well_formed("accounts.api_keys.read"));
        for name in [
            "accounts.users",
            "a.b.c.d",
            "A.b.c",
            "a..c",
            "a.b.*",
            "a.b.c ",
            "1.b.c",
        ] {
            assert!(!is_well_formed(name), "{name}");
        }
    }
}
