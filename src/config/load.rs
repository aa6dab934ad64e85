//! Merges file, environment and flags into one table, keeps where each value came from, and reads it key by key so
//! that every wrong one is reported.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use toml::{Table, Value};

use super::Config;

/// Prefix of environment variables that are settings.
const ENV_PREFIX: &str = "TIDELOG__";
/// Settings that have no default value and so are not in the printed defaults.
const WITHOUT_DEFAULT: [&str; 14] = [
    "bucket",
    "http.tls.cert",
    "http.tls.key",
    "admin.tls.cert",
    "admin.tls.key",
    "auth.tokens_file",
    "wal.keep",
    "cluster.node_id",
    "cluster.shards",
    "peer.listen",
    "peer.advertise",
    "peer.tls.cert",
    "peer.tls.key",
    "peer.tls.ca",
];

/// Where settings come from; tests build one by hand.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Path (for messages) and text of the file; see [`super::read_file`].
    pub file: Option<(PathBuf, String)>,
    /// The environment; only variables starting with `TIDELOG__` are looked at.
    pub environment: Vec<(String, String)>,
    /// Flags: dotted key (`http.listen`), name of the flag (`--listen`), value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

impl Sources {
    /// The environment of this process; variables that are no text are left out.
    #[must_use]
    pub fn from_process() -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(ENV_PREFIX))
            .collect();
        Self { environment, ..Self::default() }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// One sentence for each problem, starting with the key.
    pub problems: Vec<String>,
}

impl ConfigError {
    pub(super) fn one(problem: String) -> Self {
        Self { problems: vec![problem] }
    }

    pub(super) fn check(problems: Vec<String>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("; "))
    }
}

impl std::error::Error for ConfigError {}

/// Where a value came from, for messages.
type Origin = String;
/// Values by dotted key.
type Leaves = BTreeMap<String, (Value, Origin)>;

pub(super) fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let defaults = Table::try_from(Config::default()).map_err(|error| ConfigError::one(error.to_string()))?;
    let mut problems = Vec::new();
    let mut leaves = Leaves::new();
    if let Some((path, text)) = &sources.file {
        match text.parse::<Table>() {
            Ok(table) => flatten(&table, "", &defaults, &path.display().to_string(), &mut leaves),
            Err(error) => problems.push(format!("{}: {error}", path.display())),
        }
    }
    for (name, value) in &sources.environment {
        let Some(key) = name.strip_prefix(ENV_PREFIX) else { continue };
        let key = key.to_ascii_lowercase().replace("__", ".");
        let value = typed(&defaults, &key, value);
        leaves.insert(key, (value, name.clone()));
    }
    for (key, flag, value) in &sources.flags {
        leaves.insert((*key).to_owned(), (typed(&defaults, key, value), (*flag).to_owned()));
    }

    let mut table = defaults.clone();
    for (key, (value, origin)) in leaves {
        if !is_known(&defaults, &key) {
            problems.push(format!("{key} ({origin}): there is no such setting"));
            continue;
        }
        // Alone on top of the defaults: an error is this key's.
        let mut alone = defaults.clone();
        set(&mut alone, &key, value.clone());
        match alone.try_into::<Config>() {
            Ok(_) => set(&mut table, &key, value),
            Err(error) => problems.push(format!("{key} ({origin}): {}", first_line(&error.to_string()))),
        }
    }
    ConfigError::check(problems)?;
    table.try_into().map_err(|error| ConfigError::one(first_line(&error.to_string()).to_owned()))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Puts the leaves of `table` under their dotted keys. A table in place of a value stays one leaf, so that it is
/// reported as such.
fn flatten(table: &Table, prefix: &str, defaults: &Table, origin: &str, leaves: &mut Leaves) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match (value, lookup(defaults, &key)) {
            (Value::Table(inner), Some(Value::Table(_))) => flatten(inner, &key, defaults, origin, leaves),
            _ => {
                leaves.insert(key, (value.clone(), origin.to_owned()));
            }
        }
    }
}

/// The text of an environment variable or flag as the type that the setting has; text that does not fit stays text
/// and is refused later with the setting's own message.
fn typed(defaults: &Table, key: &str, text: &str) -> Value {
    let text_value = || Value::String(text.to_owned());
    match lookup(defaults, key) {
        Some(Value::Integer(_)) => text.parse().map_or_else(|_| text_value(), Value::Integer),
        Some(Value::Float(_)) => text.parse().map_or_else(|_| text_value(), Value::Float),
        Some(Value::Boolean(_)) => text.parse().map_or_else(|_| text_value(), Value::Boolean),
        Some(Value::Array(_)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
        _ => text_value(),
    }
}

fn is_known(defaults: &Table, key: &str) -> bool {
    WITHOUT_DEFAULT.contains(&key) || lookup(defaults, key).is_some()
}

fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => lookup(table.get(section)?.as_table()?, rest),
    }
}

fn set(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(section) {
                set(inner, rest, value);
            }
        }
    }
}
