//! The file of tokens: a line for each, with its name, its role and the SHA-256 of the token in hex. Tokens themselves are
//! nowhere but with those who send them.
//!
//! A token is looked for among all of them in a time that does not depend on which one it is nor on how much of it is right.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

/// Tokens of a file; each request compares its own with all of them.
const MAX_TOKENS: usize = 1_000;
const MAX_NAME: usize = 64;

/// What a token allows; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Fetching, describing, looking at the server.
    Read,
    /// Producing, creating topics, flushing.
    Write,
    /// Everything: changing and deleting topics, archive jobs, the routes of operators.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// The word in files and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let role = Self::ALL.into_iter().find(|role| role.name() == text);
        role.ok_or_else(|| format!("{text:?} is none of the roles read, write and admin"))
    }
}

/// The line of a token in the file.
///
/// # Errors
/// No token can have such a name.
pub fn token_line(name: &str, role: Role, token: &str) -> Result<String, String> {
    check_name(name)?;
    let hex: String = sha256(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{name} {role} {hex}"))
}

type Hash = [u8; SHA256_OUTPUT_LEN];

/// Whoever holds a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// For logs and messages.
    pub(crate) name: String,
    pub(crate) role: Role,
}

/// The tokens that are taken.
#[derive(Debug)]
pub(crate) struct Tokens {
    hashes: Vec<Hash>,
    holders: Vec<Arc<Holder>>,
}

impl Tokens {
    /// The tokens of a file's text.
    ///
    /// # Errors
    /// The first line that is none, by its number; what it holds is not repeated.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Self { hashes: Vec::new(), holders: Vec::new() };
        let mut seen = BTreeSet::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (holder, hash) = parse_line(line).map_err(|what| format!("line {}: {what}", at + 1))?;
            if !seen.insert(holder.name.clone()) {
                return Err(format!("line {}: {} is there twice", at + 1, holder.name));
            }
            if tokens.hashes.contains(&hash) {
                return Err(format!("line {}: {} has the token of another line", at + 1, holder.name));
            }
            tokens.hashes.push(hash);
            tokens.holders.push(Arc::new(holder));
        }
        match tokens.hashes.len() {
            0 => Err("there is no token in it: nobody could call".to_owned()),
            1..=MAX_TOKENS => Ok(tokens),
            more => Err(format!("{more} tokens are more than {MAX_TOKENS}")),
        }
    }

    /// Whose token it is.
    pub(crate) fn find(&self, token: &[u8]) -> Option<Arc<Holder>> {
        let sent = sha256(token);
        let mut place = u32::MAX;
        for (at, hash) in (0_u32..).zip(&self.hashes) {
            let same: Choice = hash.ct_eq(&sent);
            place.conditional_assign(&at, same);
        }
        self.holders.get(place as usize).cloned()
    }
}

fn parse_line(line: &str) -> Result<(Holder, Hash), String> {
    let parts: Vec<&str> = line.split_whitespace().collect();
    let &[name, role, hex] = parts.as_slice() else {
        return Err(format!("it has {} words; they are a name, a role and the SHA-256 of a token", parts.len()));
    };
    check_name(name)?;
    let hash = hash_of_hex(hex).ok_or("the third word is not a SHA-256: 64 hexadecimal digits")?;
    Ok((Holder { name: name.to_owned(), role: role.parse()? }, hash))
}

fn check_name(name: &str) -> Result<(), String> {
    let usable = (1..=MAX_NAME).contains(&name.len()) && !name.starts_with('#');
    if usable && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(format!("a name has 1 to {MAX_NAME} visible ASCII characters and does not begin with #"))
}

fn hash_of_hex(hex: &str) -> Option<Hash> {
    let hex = Some(hex.as_bytes()).filter(|hex| hex.len() == 2 * SHA256_OUTPUT_LEN)?;
    let mut hash = [0; SHA256_OUTPUT_LEN];
    for (byte, pair) in hash.iter_mut().zip(hex.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(hash)
}

fn sha256(token: &[u8]) -> Hash {
    let mut hash = [0; SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest(&SHA256, token).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_line_is_the_sha_256_of_the_token() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(token_line("n", Role::Write, "abc").unwrap(), format!("n write {abc}"));
        assert!(token_line("a b", Role::Read, "x").is_err() && token_line("", Role::Read, "x").is_err());
    }

    #[test]
    fn tokens_are_found_by_themselves_and_by_nothing_else() {
        let lines = [("reader", Role::Read, "r"), ("loader", Role::Write, "w"), ("root", Role::Admin, "a")];
        let text: String =
            lines.iter().map(|(name, role, token)| token_line(name, *role, token).unwrap() + "\n").collect();
        let tokens = Tokens::parse(&format!("# who\n\n  {text}")).unwrap();
        for (name, role, token) in lines {
            assert_eq!(*tokens.find(token.as_bytes()).unwrap(), Holder { name: name.to_owned(), role });
        }
        for other in ["", "R", "rw", " r", "r\0"] {
            assert_eq!(tokens.find(other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn roles_include_the_ones_before() {
        assert!(Role::Read < Role::Write && Role::Write < Role::Admin);
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!("Admin".parse::<Role>().is_err());
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_by_its_line_and_without_what_is_in_it() {
        let good = token_line("a", Role::Read, "x").unwrap();
        let hash = good.split(' ').nth(2).unwrap();
        for (text, said) in [
            (String::new(), "no token"),
            ("# nothing\n".to_owned(), "no token"),
            (format!("{good}\nb read\n"), "line 2: it has 2 words"),
            (format!("{good} more"), "line 1: it has 4 words"),
            (format!("a owner {hash}"), "line 1: \"owner\" is none of the roles"),
            (format!("a read {}", &hash[1..]), "line 1: the third word is not a SHA-256"),
            (format!("a read {}g", &hash[1..]), "line 1: the third word is not a SHA-256"),
            (format!("a read {}é", &hash[2..]), "line 1: the third word is not a SHA-256"),
            (format!("{} read {hash}", "n".repeat(65)), "line 1: a name has"),
            (format!("{good}\na write {}\n", "0".repeat(64)), "line 2: a is there twice"),
            (format!("{good}\nb write {}\n", hash.to_uppercase()), "line 2: b has the token of another line"),
        ] {
            let error = Tokens::parse(&text).unwrap_err();
            assert!(error.contains(said) && !error.contains(&hash[2..40]), "{text}: {error}");
        }
        let many = |count: usize| -> String {
            (0..count).map(|n| token_line(&format!("n{n}"), Role::Read, &n.to_string()).unwrap() + "\n").collect()
        };
        assert!(Tokens::parse(&many(MAX_TOKENS)).is_ok() && Tokens::parse(&many(MAX_TOKENS + 1)).is_err());
    }
}
