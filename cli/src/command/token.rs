//! `tidelog token new`: a token for whoever is to call a server, and its line for the server's file of tokens.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Subcommand, ValueEnum};
use serde_json::json;
use tidelog_gateway::{Role, token_line};
use uuid::Uuid;

use crate::exit::usage;
use crate::output::{self, Out};

/// The commands about tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Print a new token, and its line for the file that auth.tokens_file names; it is kept nowhere
    New {
        /// What it allows; each role includes the ones before it
        #[arg(long, value_enum)]
        role: RoleArg,
        /// Whose it is, for the server's log
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// The roles of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Fetch, describe, look at the server
    Read,
    /// Produce, create topics, flush
    Write,
    /// Everything: change and delete topics, archive jobs, the commands of operators
    Admin,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Read => Self::Read,
            RoleArg::Write => Self::Write,
            RoleArg::Admin => Self::Admin,
        }
    }
}

/// Begins every token that is made here, so that a scanner for secrets can find one that was left somewhere.
const PREFIX: &str = "tidelog_";

/// Makes a token; nothing is kept of it.
pub(super) fn run(command: &TokenCommand) -> Result<()> {
    let TokenCommand::New { role, name, json } = command;
    let token = new_token();
    let line = token_line(name, Role::from(*role), &token).map_err(usage)?;
    if *json {
        return output::json(&json!({ "token": token, "line": line }));
    }
    let mut out = Out::new();
    out.line(&format!("token  {token}"))?;
    out.line(&format!("line   {line}"))?;
    out.finish()
}

/// 244 random bits of the operating system: two random UUIDs.
fn new_token() -> String {
    let bytes = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_fit_a_header() {
        let (one, two) = (new_token(), new_token());
        assert_ne!(one, two);
        assert!(one.len() == PREFIX.len() + 43 && one.bytes().all(|byte| byte.is_ascii_graphic()), "{one}");
    }
}
