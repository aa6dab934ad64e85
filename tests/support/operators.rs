//! Where the listeners for operators are of the servers that this process started: tests speak of a server by the URL of its
//! listener for clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

static PLACES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
/// Servers that no client reaches, by the URLs that clients would use.
static ALONE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Remembers that the server whose clients use one URL is operated by the other.
pub(crate) fn remember(clients: &str, operators: &str) {
    PLACES.lock().unwrap().insert(clients.to_owned(), operators.to_owned());
}

/// From now on the server with this URL has a listener for operators alone, or one for clients besides.
pub(crate) fn alone(clients: &str, alone: bool) {
    let mut all = ALONE.lock().unwrap();
    if alone {
        all.insert(clients.to_owned());
    } else {
        all.remove(clients);
    }
}

/// Where a request for a path goes.
pub(crate) fn place(clients: &str, path: &str) -> String {
    if has(path) || ALONE.lock().unwrap().contains(clients) { of(clients) } else { clients.to_owned() }
}

/// Where a server is operated; one that is not known has one listener.
pub(crate) fn of(clients: &str) -> String {
    PLACES.lock().unwrap().get(clients).map_or(clients, String::as_str).to_owned()
}

/// The same of several servers, separated by commas.
pub(crate) fn of_all(clients: &str) -> String {
    clients.split(',').map(of).collect::<Vec<_>>().join(",")
}

/// Whether a path is of the listener for operators.
pub(crate) fn has(path: &str) -> bool {
    path.starts_with("/v1/admin/") || path.starts_with("/metrics")
}
