//! Which server a command speaks with: the listener for clients, or the one for operators; with which token, and whose
//! certificates are believed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use tidelog_client::{Access, Client, ClientOptions, RetryPolicy};

use crate::exit::usage;

/// The default of `admin.listen`, as a URL.
pub(crate) const ADMIN_SERVER: &str = "http://127.0.0.1:7071";

/// Which server, and how answers are printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remote {
    /// URL of the server; several of one cluster are separated by commas, and the next one is asked when one is away
    #[arg(long, env = "TIDELOG_SERVER", default_value = "http://127.0.0.1:7070", value_name = "URL[,URL]")]
    pub server: String,
    #[command(flatten)]
    pub credentials: Credentials,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Which server's listener for operators, and how answers are printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdminRemote {
    #[command(flatten)]
    pub at: AdminServer,
    #[command(flatten)]
    pub credentials: Credentials,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Which server's listener for operators.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdminServer {
    /// URL of the server's listener for operators (admin.listen); several of one cluster are separated by commas, and the next
    /// one is asked when one is away
    #[arg(long, env = "TIDELOG_ADMIN_SERVER", default_value = ADMIN_SERVER, value_name = "URL[,URL]")]
    pub admin_server: String,
}

impl Remote {
    /// The same server's listener for operators.
    pub(crate) fn of_operators(&self, at: &AdminServer) -> AdminRemote {
        AdminRemote { at: at.clone(), credentials: self.credentials.clone(), json: self.json }
    }
}

/// What a command shows to a server, and whom it believes.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Credentials {
    /// Authorities, in PEM, that are believed besides the well-known ones, for servers of https://
    #[arg(long, env = "TIDELOG_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The file of the token that the server wants [default: the token in the variable TIDELOG_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// The variable with the token itself: no flag, since everybody sees the flags of a process.
const TOKEN: &str = "TIDELOG_TOKEN";

impl Credentials {
    /// The token, if there is one: of the file, else of the environment.
    pub(crate) fn token(&self) -> Result<Option<String>> {
        let text = match &self.token_file {
            Some(path) => {
                Some(std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?)
            }
            None => std::env::var(TOKEN).ok(),
        };
        Ok(text.map(|text| text.trim().to_owned()).filter(|token| !token.is_empty()))
    }

    fn access(&self) -> Result<Access> {
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        Ok(Access { ca: self.ca.as_ref().map(read).transpose()?, token: self.token()? })
    }
}

/// What names servers.
pub(crate) trait Servers {
    /// Their URLs, separated by commas.
    fn servers(&self) -> &str;

    /// What is shown to them.
    fn credentials(&self) -> &Credentials;
}

impl Servers for Remote {
    fn servers(&self) -> &str {
        &self.server
    }

    fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

impl Servers for AdminRemote {
    fn servers(&self) -> &str {
        &self.at.admin_server
    }

    fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

/// The client for the server or servers that were named.
pub(crate) fn connect(remote: &impl Servers) -> Result<Client> {
    connect_with(remote, ClientOptions::default())
}

/// The same, for calls that are tried again for so long.
pub(crate) fn connect_for(remote: &impl Servers, deadline: Duration) -> Result<Client> {
    let retry = RetryPolicy { deadline, ..RetryPolicy::default() };
    connect_with(remote, ClientOptions { retry, ..ClientOptions::default() })
}

fn connect_with(remote: &impl Servers, options: ClientOptions) -> Result<Client> {
    let access = remote.credentials().access()?;
    Client::with_access(remote.servers(), options, &access).map_err(|error| usage(error.to_string()))
}
