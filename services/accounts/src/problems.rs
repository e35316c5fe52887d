//! The problems that requests about accounts are answered with, and which routes answer with which.

use dotmac_platform::{
    access::{GuardedRoute, PermissionSpec},
    module::Module as _,
    routing::ProblemType,
};

use crate::Accounts;

pub(crate) const AMBIGUOUS_CREDENTIALS: ProblemType = ProblemType::new(
    400,
    "ambiguous_credentials",
    "the request brings credentials in more than one way",
);
pub(crate) const INVALID_CREDENTIALS: ProblemType = ProblemType::new(
    401,
    "invalid_credentials",
    "these credentials are not right",
);
pub(crate) const TOKEN_INVALID: ProblemType =
    ProblemType::new(401, "token_invalid", "the token is not valid");
pub(crate) const TOKEN_EXPIRED: ProblemType =
    ProblemType::new(401, "token_expired", "the token has expired");
pub(crate) const SESSION_ENDED: ProblemType =
    ProblemType::new(401, "session_ended", "the session has ended");
pub(crate) const REFRESH_REUSED: ProblemType = ProblemType::new(
    401,
    "refresh_reused",
    "the refresh token was used before; the session was ended, since the token may be stolen",
);
pub(crate) const STEP_UP_REQUIRED: ProblemType = ProblemType::new(
    403,
    "step_up_required",
    "this needs a stronger or a younger authentication; `errors` say which",
);
pub(crate) const FORBIDDEN: ProblemType = ProblemType::new(403, "forbidden", "this is not allowed");
pub(crate) const MFA_ENROLMENT_REQUIRED: ProblemType = ProblemType::new(
    403,
    "mfa_enrolment_required",
    "the tenant wants a second factor of its members: add one at /api/v1/auth/me/factors",
);
pub(crate) const CSRF: ProblemType = ProblemType::new(
    403,
    "csrf",
    "a browser's request that changes something must come from this site",
);
pub(crate) const REGISTRATION_CLOSED: ProblemType = ProblemType::new(
    403,
    "registration_closed",
    "accounts are made by administrators only",
);
pub(crate) const NOT_FOUND: ProblemType =
    ProblemType::new(404, "not_found", "there is no such thing");
pub(crate) const CONFLICT: ProblemType = ProblemType::new(
    409,
    "conflict",
    "there is one with this name or address already",
);
pub(crate) const LAST_OWNER: ProblemType =
    ProblemType::new(409, "last_owner", "the last owner of a tenant must stay");
pub(crate) const LAST_FACTOR: ProblemType = ProblemType::new(
    409,
    "last_factor",
    "the last second factor must stay: without it there is no way in but a mail, or a password that is too short to be alone",
);
pub(crate) const LINK_GONE: ProblemType = ProblemType::new(
    410,
    "link_used_or_expired",
    "the link was used or has expired",
);
pub(crate) const RATE_LIMITED: ProblemType = ProblemType::new(
    429,
    "rate_limited",
    "there were too many failures; `Retry-After` says when to try again",
);
pub(crate) const AUTH_BUSY: ProblemType =
    ProblemType::new(503, "auth_busy", "too many sign-ins are under way");
pub(crate) const AUTH_UNAVAILABLE: ProblemType =
    ProblemType::new(503, "auth_unavailable", "credentials cannot be checked now");

/// Signing in by a password, and by a code of a mail.
pub(crate) const OF_SIGN_IN: &[ProblemType] = &[
    INVALID_CREDENTIALS,
    CSRF,
    RATE_LIMITED,
    AUTH_BUSY,
    AUTH_UNAVAILABLE,
];

/// Signing in by what was begun before: a second factor, a passkey, a link.
pub(crate) const OF_FLOW: &[ProblemType] = &[
    INVALID_CREDENTIALS,
    CSRF,
    FORBIDDEN,
    LINK_GONE,
    RATE_LIMITED,
    AUTH_BUSY,
    AUTH_UNAVAILABLE,
];

/// Going on with a refresh token.
pub(crate) const OF_REFRESH: &[ProblemType] = &[
    TOKEN_INVALID,
    SESSION_ENDED,
    REFRESH_REUSED,
    RATE_LIMITED,
    AUTH_UNAVAILABLE,
];

/// Asking for an authenticator's answer.
pub(crate) const OF_OPTIONS: &[ProblemType] = &[FORBIDDEN, NOT_FOUND, LINK_GONE, AUTH_UNAVAILABLE];

/// Asking for a mail.
pub(crate) const OF_MAIL: &[ProblemType] = &[CSRF, AUTH_BUSY];

/// Registering.
pub(crate) const OF_REGISTRATION: &[ProblemType] =
    &[REGISTRATION_CLOSED, CSRF, AUTH_BUSY, AUTH_UNAVAILABLE];

/// Using a link that was mailed.
pub(crate) const OF_LINK: &[ProblemType] =
    &[CSRF, CONFLICT, LINK_GONE, AUTH_BUSY, AUTH_UNAVAILABLE];

/// Changes of a signed-in user to the own ways of signing in.
pub(crate) const OF_OWN: &[ProblemType] = &[
    SESSION_ENDED,
    FORBIDDEN,
    STEP_UP_REQUIRED,
    NOT_FOUND,
    CONFLICT,
    LAST_FACTOR,
    LINK_GONE,
    RATE_LIMITED,
    AUTH_BUSY,
    AUTH_UNAVAILABLE,
];

/// Ending and changing sessions of one's own.
pub(crate) const OF_SESSION: &[ProblemType] =
    &[SESSION_ENDED, FORBIDDEN, NOT_FOUND, AUTH_UNAVAILABLE];

/// Going on in another tenant.
pub(crate) const OF_SWITCH: &[ProblemType] = &[
    SESSION_ENDED,
    FORBIDDEN,
    MFA_ENROLMENT_REQUIRED,
    STEP_UP_REQUIRED,
    NOT_FOUND,
    AUTH_UNAVAILABLE,
];

/// What administrators change.
pub(crate) const OF_ADMINISTRATION: &[ProblemType] = &[
    FORBIDDEN,
    STEP_UP_REQUIRED,
    NOT_FOUND,
    CONFLICT,
    LAST_OWNER,
    AUTH_BUSY,
    AUTH_UNAVAILABLE,
];

/// Reading one thing.
pub(crate) const OF_READING: &[ProblemType] = &[NOT_FOUND];

/// Reading one's own, which takes a person.
pub(crate) const OF_OWN_READING: &[ProblemType] = &[FORBIDDEN, NOT_FOUND];

/// Reading a list.
pub(crate) const OF_LIST: &[ProblemType] = &[];

/// Reading a list of one's own.
pub(crate) const OF_OWN_LIST: &[ProblemType] = &[FORBIDDEN];

/// Reading the public keys.
pub(crate) const OF_KEYS: &[ProblemType] = &[AUTH_UNAVAILABLE];

/// What the guard of a route may answer.
pub(crate) fn of_guard(route: &GuardedRoute<'_>) -> Vec<ProblemType> {
    let mut problems = vec![
        AMBIGUOUS_CREDENTIALS,
        TOKEN_INVALID,
        TOKEN_EXPIRED,
        SESSION_ENDED,
        AUTH_UNAVAILABLE,
    ];
    if changes_something(route.method.as_str()) {
        problems.push(CSRF);
    }
    let is_confirmed = |permission: PermissionSpec| {
        permission.area() == Accounts::NAME || permission.is_for_operators()
    };
    if !is_of_signing_in(route.method.as_str(), route.path) {
        problems.extend([MFA_ENROLMENT_REQUIRED, STEP_UP_REQUIRED]);
    } else if route.permission.is_some_and(is_confirmed) {
        problems.push(STEP_UP_REQUIRED);
    }
    problems
}

/// Whether a request is about how its user signs in: the policy of a tenant does not concern it. To create or rotate an API key
/// is not, since a key acts without a second factor.
pub(crate) fn is_of_signing_in(method: &str, path: &str) -> bool {
    let makes_key = method == "POST" && path.starts_with("/api/v1/auth/me/api-keys");
    path.starts_with("/api/v1/auth/") && !makes_key
}

/// Whether a browser must say that a request by that method comes from this site.
pub(crate) fn changes_something(method: &str) -> bool {
    !matches!(method, "GET" | "HEAD" | "OPTIONS")
}
