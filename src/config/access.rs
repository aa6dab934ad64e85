//! `[admin]` and `[auth]`: the listener for operators beside the one for clients, and what protects both of them: TLS, and tokens.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Config;

/// `[admin]`: the listener for operators, with the admin routes and the metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address and port to listen on; port 0 takes a free one, `none` turns it off.
    #[serde(with = "listen")]
    pub listen: Option<SocketAddr>,
    /// TLS of this listener.
    pub tls: ListenerTls,
}

/// `[http.tls]` and `[admin.tls]`: with these files a listener speaks TLS; they are read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerTls {
    /// The certificate, with the intermediate ones after it, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// The certificate's private key, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// `[auth]`: who may call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Names, roles and SHA-256 of the tokens that are taken on both listeners; read again when it changes. Without it
    /// everybody may do everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_file: Option<PathBuf>,
}

impl ListenerTls {
    /// Certificate and key, if the listener speaks TLS.
    #[must_use]
    pub fn files(&self) -> Option<(&PathBuf, &PathBuf)> {
        self.cert.as_ref().zip(self.key.as_ref())
    }
}

impl Config {
    /// The rules of the listeners.
    pub(super) fn check_access(&self, problems: &mut Vec<String>) {
        if let Some(admin) = self.admin.listen
            && admin == self.http.listen
            && admin.port() != 0
        {
            problems
                .push(format!("admin.listen: {admin} is http.listen already: clients and operators have a port each"));
        }
        for (section, tls) in [("http", &self.http.tls), ("admin", &self.admin.tls)] {
            if tls.cert.is_some() != tls.key.is_some() {
                problems.push(format!("{section}.tls: needs both cert and key, or none"));
            }
        }
        if self.http.insecure {
            return;
        }
        let clients = self.cluster.serves_clients().then_some(self.http.listen);
        let listeners = [("http", clients, &self.http.tls), ("admin", self.admin.listen, &self.admin.tls)];
        for (section, listen, tls) in listeners {
            let Some(listen) = listen.filter(|listen| !listen.ip().is_loopback()) else { continue };
            let mut missing = Vec::new();
            if tls.files().is_none() {
                missing.push(format!("{section}.tls.cert and {section}.tls.key"));
            }
            if self.auth.tokens_file.is_none() {
                missing.push("auth.tokens_file".to_owned());
            }
            if !missing.is_empty() {
                let missing = missing.join(" and ");
                problems
                    .push(format!("{section}.listen: {listen} is beyond loopback: set {missing}, or http.insecure"));
            }
        }
    }
}

/// An address, or the word `none`.
mod listen {
    use std::net::SocketAddr;

    use serde::de::{Deserialize as _, Deserializer, Error as _};
    use serde::ser::Serializer;

    const NONE: &str = "none";

    pub(super) fn serialize<S: Serializer>(listen: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        match listen {
            Some(address) => serializer.collect_str(address),
            None => serializer.serialize_str(NONE),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == NONE {
            return Ok(None);
        }
        let wrong =
            |_| D::Error::custom(format!("{text:?} is neither an address such as \"127.0.0.1:7071\" nor \"none\""));
        text.parse().map(Some).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;

    use super::*;
    use crate::config::Sources;

    #[test]
    fn a_listener_beyond_loopback_needs_tls_and_tokens_or_a_word() {
        let tls = |section: &str| format!("[{section}.tls]\ncert = \"c\"\nkey = \"k\"\n");
        let tokens = "[auth]\ntokens_file = \"t\"\n";
        let clients = "[http]\nlisten = \"0.0.0.0:7070\"\n";
        let operators = "[admin]\nlisten = \"[::]:7071\"\n";
        for (text, said) in [
            (
                clients.to_owned(),
                Some(
                    "http.listen: 0.0.0.0:7070 is beyond loopback: set http.tls.cert and http.tls.key and auth.tokens_file, or http.insecure",
                ),
            ),
            (
                format!("{clients}{tokens}"),
                Some(
                    "http.listen: 0.0.0.0:7070 is beyond loopback: set http.tls.cert and http.tls.key, or http.insecure",
                ),
            ),
            (
                format!("{clients}{}", tls("http")),
                Some("http.listen: 0.0.0.0:7070 is beyond loopback: set auth.tokens_file, or http.insecure"),
            ),
            (format!("{clients}{}{tokens}", tls("http")), None),
            (format!("{clients}insecure = true\n"), None),
            (
                format!("{operators}{tokens}{}", tls("http")),
                Some(
                    "admin.listen: [::]:7071 is beyond loopback: set admin.tls.cert and admin.tls.key, or http.insecure",
                ),
            ),
            (format!("{operators}{tokens}{}", tls("admin")), None),
            (format!("[http]\ninsecure = true\n{operators}"), None),
            ("[http]\nlisten = \"[::1]:9\"\n".to_owned(), None),
            ("[http.tls]\ncert = \"c\"\n".to_owned(), Some("http.tls: needs both cert and key, or none")),
            ("[admin.tls]\nkey = \"k\"\n".to_owned(), Some("admin.tls: needs both cert and key, or none")),
        ] {
            let problems = load(&text).map_or_else(|problems| problems, |_| Vec::new());
            assert_eq!(problems, said.into_iter().collect::<Vec<_>>(), "{text}");
        }
    }

    #[test]
    fn files_come_from_the_environment_and_print_as_toml_that_parses_back() {
        let environment = [
            ("TIDELOG__HTTP__TLS__CERT", "/c"),
            ("TIDELOG__HTTP__TLS__KEY", "/k"),
            ("TIDELOG__ADMIN__TLS__CERT", "/ac"),
            ("TIDELOG__ADMIN__TLS__KEY", "/ak"),
            ("TIDELOG__AUTH__TOKENS_FILE", "/t"),
            ("TIDELOG__HTTP__MAX_CONNECTION_AGE", "90s"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let config = Config::load(&Sources { environment, ..Sources::default() }).unwrap();
        assert_eq!(config.http.tls.files(), Some((&PathBuf::from("/c"), &PathBuf::from("/k"))));
        assert_eq!(config.admin.tls.key, Some(PathBuf::from("/ak")));
        assert_eq!(config.auth.tokens_file, Some(PathBuf::from("/t")));
        assert_eq!(load(&config.to_toml()), Ok(config));
    }

    fn load(text: &str) -> Result<Config, Vec<String>> {
        let sources = Sources { file: Some((PathBuf::from("t.toml"), text.to_owned())), ..Sources::default() };
        Config::load(&sources).map_err(|error| error.problems)
    }

    #[test]
    fn the_admin_listener_is_somewhere_or_nowhere() {
        assert_eq!(Config::default().admin.listen, Some(SocketAddr::from(([127, 0, 0, 1], 7071))));
        for (text, port) in [("127.0.0.1:9", Some(9)), ("[::1]:0", Some(0)), ("none", None)] {
            let config = load(&format!("[admin]\nlisten = \"{text}\"\n")).unwrap();
            assert_eq!(config.admin.listen.map(|address| address.port()), port);
            assert_eq!(load(&config.to_toml()), Ok(config));
        }
        for wrong in ["", "None", "7071", "localhost:7071", "127.0.0.1"] {
            let problems = load(&format!("[admin]\nlisten = \"{wrong}\"\n")).unwrap_err();
            assert!(problems.len() == 1 && problems[0].starts_with("admin.listen (t.toml):"), "{problems:?}");
        }
    }

    #[test]
    fn clients_and_operators_have_a_port_each() {
        let problems = load("[http]\nlisten = \"127.0.0.1:7071\"\n").unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with("admin.listen:"), "{problems:?}");
        load("[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    }
}
