//! `[admin]`: the listener for operators, beside the one for clients.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Config;

/// `[admin]`: the listener for operators, with the admin routes and the metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address and port to listen on; port 0 takes a free one, `none` turns it off.
    #[serde(with = "listen")]
    pub listen: Option<SocketAddr>,
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
