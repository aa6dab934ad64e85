//! `tidelog token new`: a token for whoever is to call a server, and its line for the server's file of tokens.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tidelog_gateway::{Role, token_line};
use uuid::Uuid;

use crate::args::TokenCommand;
use crate::exit::usage;
use crate::output::{self, Out};

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
