//! Who calls, and whether they may: bearer tokens, each with a role. Without a file of tokens everybody may do everything.
//!
//! Whose token a request has is found once, before any route sees it; what a route needs is in the table of routes. Tokens are
//! never logged, only the names of their holders.

mod tokens;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use tidelog::config;
use tidelog::error::Result;
use tidelog_api::ErrorCode;

use self::tokens::{Holder, Tokens};
pub use self::tokens::{Role, token_line};
use crate::error::ApiError;
use crate::reload::{Reloaded, unusable};

/// A token that is longer is none.
const MAX_TOKEN: usize = 512;
const SCHEME: &str = "bearer";

/// The tokens that are taken, if there have to be any. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Auth(Option<Arc<Reloaded<Tokens>>>);

/// Who sent a request. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Identity {
    /// Nobody asks.
    Anyone,
    /// The holder of a token.
    Known(Arc<Holder>),
    /// There is no token.
    Missing,
    /// The token is not one of ours.
    Wrong,
}

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Not even a token.
    Nothing,
    /// A token of this role, or of one that includes it.
    Token(Role),
}

impl Auth {
    /// The tokens that the settings name, read again when their file changes.
    ///
    /// # Errors
    /// `invalid_settings` if the file cannot be used.
    pub(crate) fn open(settings: &config::Auth) -> Result<Self> {
        let Some(path) = &settings.tokens_file else { return Ok(Self(None)) };
        let reloaded = Reloaded::open(vec![path.clone()], |files| {
            let path = &files[0];
            let text = std::fs::read_to_string(path).map_err(|error| unusable(path, error))?;
            Tokens::parse(&text).map_err(|what| unusable(path, what))
        })?;
        Ok(Self(Some(reloaded)))
    }

    /// Whether requests need tokens.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Who sent a request with these headers.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Identity {
        let Some(tokens) = &self.0 else { return Identity::Anyone };
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Identity::Missing };
        let holder = bearer(value.as_bytes()).and_then(|token| tokens.with(|tokens| tokens.find(token)));
        holder.map_or(Identity::Wrong, Identity::Known)
    }
}

/// The token of a header's value.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let token = rest.strip_prefix(b" ")?.trim_ascii();
    let usable = scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) && (1..=MAX_TOKEN).contains(&token.len());
    usable.then_some(token)
}

impl Identity {
    /// Lets a request to a route that has this need pass.
    ///
    /// # Errors
    /// 401 without a token of ours, 403 if its role does not include what is needed.
    pub(crate) fn admit(&self, need: Need) -> std::result::Result<(), ApiError> {
        let Need::Token(role) = need else { return Ok(()) };
        match self {
            Self::Anyone => Ok(()),
            Self::Missing => Err(challenge(
                ErrorCode::Unauthorized,
                "this server wants a token: authorization: Bearer …",
                "Bearer realm=\"tidelog\"",
            )),
            Self::Wrong => Err(challenge(
                ErrorCode::Unauthorized,
                "the header authorization has no token of this server",
                "Bearer realm=\"tidelog\", error=\"invalid_token\"",
            )),
            Self::Known(holder) if holder.role >= role => Ok(()),
            Self::Known(holder) => {
                let message = format!("the token {} has the role {}, this needs {role}", holder.name, holder.role);
                let error =
                    challenge(ErrorCode::Forbidden, &message, "Bearer realm=\"tidelog\", error=\"insufficient_scope\"");
                Err(error.with("role", holder.role.name()).with("needed", role.name()))
            }
        }
    }

    /// The name of whoever holds the token, for the log.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Known(holder) => Some(&holder.name),
            Self::Anyone | Self::Missing | Self::Wrong => None,
        }
    }
}

fn challenge(code: ErrorCode, message: &str, challenge: &'static str) -> ApiError {
    ApiError::new(code, message).with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_token_of_a_header_is_bounded_and_of_the_scheme() {
        for value in ["Bearer x", "bearer x", "BEARER   x ", "Bearer x\t"] {
            assert_eq!(bearer(value.as_bytes()), Some(&b"x"[..]), "{value:?}");
        }
        let long = format!("Bearer {}", "x".repeat(MAX_TOKEN + 1));
        for value in ["", "Bearer", "Bearer ", "Bearer  ", "Bearerx", "Basic x", "x", &long] {
            assert_eq!(bearer(value.as_bytes()), None, "{value:?}");
        }
    }

    #[test]
    fn a_role_admits_to_what_it_includes() {
        let known = |role| Identity::Known(Arc::new(Holder { name: "n".to_owned(), role }));
        for role in Role::ALL {
            for needed in Role::ALL {
                let admitted = known(role).admit(Need::Token(needed));
                assert_eq!(admitted.is_ok(), role >= needed, "{role} {needed}");
                if let Err(error) = admitted {
                    assert_eq!(error.code(), ErrorCode::Forbidden);
                }
            }
            for unknown in [Identity::Missing, Identity::Wrong] {
                assert_eq!(unknown.admit(Need::Token(role)).unwrap_err().code(), ErrorCode::Unauthorized);
                assert!(unknown.admit(Need::Nothing).is_ok());
            }
            assert!(Identity::Anyone.admit(Need::Token(role)).is_ok());
        }
    }

    #[tokio::test]
    async fn the_file_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let settings = config::Auth { tokens_file: Some(path.clone()) };
        assert!(Auth::open(&settings).is_err());
        let with = |token: &str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap())])
        };
        std::fs::write(&path, token_line("a", Role::Read, "one").unwrap()).unwrap();
        let auth = Auth::open(&settings).unwrap();
        assert!(auth.is_on() && auth.identify(&with("one")).name() == Some("a"));
        assert!(matches!(auth.identify(&with("two")), Identity::Wrong));
        assert!(matches!(auth.identify(&HeaderMap::new()), Identity::Missing));
        std::fs::write(&path, token_line("bb", Role::Read, "two").unwrap()).unwrap();
        auth.0.as_ref().unwrap().refresh();
        assert!(matches!(auth.identify(&with("one")), Identity::Wrong));
        assert_eq!(auth.identify(&with("two")).name(), Some("bb"));
    }
}
