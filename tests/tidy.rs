//! The rules of this repository that a compiler does not know: layers, where third-party names may appear, sizes of files,
//! module headers, and what may not be written. Every finding is a line `file:line: rule`.
//!
//! It looks at text, not at syntax: comments and strings are blanked out first, and what follows `#[cfg(test)]` on a
//! module counts as test code.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of any file.
const MAX_LINES: usize = 600;

/// The modules of the engine and what each may import besides itself; the table of docs/architecture.md.
const LAYERS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("clock", &[]),
    ("config", &["error", "clock"]),
    ("metrics", &["error", "clock"]),
    ("failpoint", &["error"]),
    ("planted", &[]),
    ("blocking", &[]),
    ("disk", &["blocking"]),
    ("model", FOUNDATION),
    ("format", NOUNS),
    ("log_clock", &["error", "clock", "config", "metrics", "model", "planted"]),
    ("checkpoints", READERS),
    ("state", &["error", "model", "format", "planted"]),
    ("store", IO),
    ("cache", IO),
    ("peer", IO),
    (
        "raft",
        &[
            "error",
            "clock",
            "config",
            "metrics",
            "failpoint",
            "planted",
            "disk",
            "blocking",
            "model",
            "format",
            "state",
            "store",
            "cache",
            "peer",
            "log_clock",
        ],
    ),
    ("produce", BELOW_SHARD),
    ("flush", BELOW_SHARD),
    ("fetch", BELOW_SHARD),
    ("archive", BELOW_SHARD),
    ("gc", BELOW_SHARD),
    ("verify", BELOW_SHARD),
    ("backup", BELOW_SHARD),
    ("retention", BELOW_SHARD),
];
const FOUNDATION: &[&str] = &["error", "clock", "config", "metrics", "failpoint", "planted", "disk", "blocking"];
const IO: &[&str] =
    &["error", "clock", "config", "metrics", "failpoint", "planted", "disk", "blocking", "model", "format"];
const READERS: &[&str] =
    &["error", "clock", "config", "metrics", "failpoint", "planted", "disk", "blocking", "model", "format", "store"];
const BELOW_SHARD: &[&str] = &[
    "error",
    "clock",
    "config",
    "metrics",
    "failpoint",
    "planted",
    "disk",
    "blocking",
    "model",
    "format",
    "state",
    "store",
    "cache",
    "peer",
    "raft",
    "log_clock",
    "checkpoints",
];
/// Modules that compose the others; nothing below names them.
const TOP: &[&str] = &["shard", "queue", "boot"];

const NOUNS: &[&str] = &["error", "clock", "config", "metrics", "failpoint", "planted", "disk", "blocking", "model"];

/// What the members of the workspace may name of each other.
const MEMBERS: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("client", &["tidelog_api"]),
    ("gateway", &["tidelog", "tidelog_api"]),
    ("compactor", &["tidelog", "tidelog_api"]),
    ("cli", &["tidelog", "tidelog_api", "tidelog_client", "tidelog_gateway", "tidelog_compactor"]),
];
/// Modules of the engine that no other member may name.
const INSIDE: &[&str] = &["state", "raft", "flush", "produce", "fetch", "gc", "peer", "shard"];

/// Third-party crates that have one place.
const PLACES: &[(&str, &[&str])] = &[
    ("openraft", &["src/raft/"]),
    ("foyer", &["src/cache"]),
    ("arrow_array", ARROW),
    ("arrow_buffer", ARROW),
    ("arrow_schema", ARROW),
    ("arrow_select", ARROW),
    ("arrow_json", ARROW),
    ("parquet", ARROW),
    ("axum", &["gateway/"]),
    ("object_store::path", &["src/store/"]),
    ("aws_config", &["src/store/aws.rs"]),
    ("anyhow", &["cli/"]),
    ("reqwest", &["client/"]),
];
/// The second place is an exception: docs/decisions/0002-parquet-input.md.
const ARROW: &[&str] = &["src/format/archive", "cli/src/input/"];

/// What the engine does only in one place, so that a simulation can put its own disk, clock and scheduling under it
/// (docs/decisions/0021): what it is, what takes its place, and where it may be all the same.
const SEAMS: &[(&str, &str, &[&str])] = &[
    ("std::fs", "crate::disk", FILES),
    ("tokio::fs", "crate::disk", &[]),
    ("spawn_blocking", "crate::blocking", THREADS),
    ("thread::sleep", "tokio::time, so that time may be another than the machine's", &["src/failpoint.rs"]),
    ("SystemTime::now", "crate::clock", &["src/clock.rs", "src/store/local.rs"]),
];
/// Settings, certificates and what the system says of the process are read once or now and then; the block cache is foyer's; a bucket
/// on the local disk is a store, of which a simulation brings its own.
const FILES: &[&str] = &[
    "src/disk/",
    "src/config/",
    "src/metrics/process.rs",
    "src/cache.rs",
    "src/peer/tls.rs",
    "src/store/open.rs",
    "src/store/local.rs",
];
const THREADS: &[&str] = &["src/blocking.rs", "src/cache.rs", "src/peer/tls.rs", "src/store/"];

/// What may not be written in code outside tests.
const FORBIDDEN: &[(&str, &str)] = &[
    (".unwrap()", "handle the error, or state the invariant with an assert"),
    ("todo!", "unfinished code"),
    ("unimplemented!", "unfinished code"),
    ("dbg!", "a trace that was left behind"),
    ("println!", "panics when a pipe is closed"),
    ("print!(", "panics when a pipe is closed"),
];
/// What may not be written anywhere, comments included. Put together so that this file passes.
const BANNED: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "do it, or write an issue"),
    (concat!("FIX", "ME"), "do it, or write an issue"),
    (concat!("XX", "X"), "do it, or write an issue"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/ho", "me/"), "a path of one machine"),
];
/// Endings that say nothing.
const EMPTY_NAMES: &[&str] = &["Manager", "Helper", "Util", "Utils"];

#[test]
fn the_repository_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut findings = String::new();
    let mut files = Vec::new();
    for folder in ["src", "api", "gateway", "compactor", "client", "cli", "tests", "benches"] {
        collect(&root.join(folder), &mut files);
    }
    assert!(files.len() > 20, "the sources were not found");
    files.sort();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        for (line, rule) in check(&name, &text) {
            writeln!(findings, "{name}:{line}: {rule}").unwrap();
        }
    }
    assert!(findings.is_empty(), "\n{findings}");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The findings of one file: line and rule.
fn check(name: &str, text: &str) -> Vec<(usize, String)> {
    let mut findings = Vec::new();
    let count = text.lines().count();
    if count > MAX_LINES {
        findings.push((count, format!("{count} lines, at most {MAX_LINES}")));
    }
    let is_test = is_test_file(name);
    if !is_test && !text.starts_with("//!") {
        findings.push((1, "no //! header that says what the module is for".to_owned()));
    }
    if let Some((module, _)) = engine_module(name).filter(|(module, _)| !is_module(module)) {
        findings.push((1, format!("the module {module} has no layer in tests/tidy.rs")));
    }
    for (number, line) in text.lines().enumerate() {
        for (word, why) in BANNED {
            if line.contains(word) {
                findings.push((number + 1, format!("{word}: {why}")));
            }
        }
    }
    let code = blank(text);
    let test_lines = test_module_lines(&code);
    let lines: Vec<&str> = code.lines().collect();
    for (number, line) in lines.iter().copied().enumerate() {
        let in_test = is_test || test_lines.iter().any(|range| range.contains(&number));
        let mut rules = Vec::new();
        check_names(line, &mut rules);
        if !in_test {
            check_places(name, line, &mut rules);
            check_forbidden(line, &mut rules);
            check_layers(name, line, &mut rules);
            check_members(name, line, &mut rules);
            check_seams(name, line, &mut rules);
            check_select(name, &lines[number..], &mut rules);
        }
        findings.extend(rules.into_iter().map(|rule| (number + 1, rule)));
    }
    findings
}

fn is_test_file(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    parts.iter().any(|part| matches!(*part, "tests" | "benches"))
        || parts.last().is_some_and(|file| *file == "tests.rs" || file.ends_with("_tests.rs") || *file == "test.rs")
}

fn check_names(line: &str, rules: &mut Vec<String>) {
    for keyword in ["struct ", "enum ", "trait ", "type "] {
        let Some((before, after)) = line.split_once(keyword) else { continue };
        if !before.is_empty() && !before.ends_with(|c: char| c.is_whitespace()) {
            continue;
        }
        let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if let Some(ending) = EMPTY_NAMES.iter().find(|ending| name.ends_with(**ending)) {
            rules.push(format!("{name}: a name ending in {ending} says nothing"));
        }
    }
}

fn check_places(name: &str, line: &str, rules: &mut Vec<String>) {
    for (krate, places) in PLACES {
        if names_path(line, krate) && !places.iter().any(|place| name.starts_with(place)) {
            rules.push(format!("{krate} is named only in {}", places.join(" and ")));
        }
    }
}

/// Whether the line has `path::` or `use path` with a word border before it.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + path.len()..];
        let bordered =
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':' || line[..at].ends_with(" ::"));
        let used = after.starts_with("::") || (line.trim_start().starts_with("use ") && after.starts_with(';'));
        bordered && used
    })
}

fn check_forbidden(line: &str, rules: &mut Vec<String>) {
    for (what, why) in FORBIDDEN {
        let hit = line
            .match_indices(what)
            .any(|(at, _)| what.starts_with('.') || !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        if hit {
            rules.push(format!("{what}: {why}"));
        }
    }
}

fn check_seams(name: &str, line: &str, rules: &mut Vec<String>) {
    if !name.starts_with("src/") {
        return;
    }
    for (what, instead, places) in SEAMS {
        if has_word(line, what) && !places.iter().any(|place| name.starts_with(place)) {
            rules.push(format!("{what}: the engine uses {instead}"));
        }
    }
}

/// Whether the line has `word` with borders around it.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

/// What `select!` does when several branches are ready has to be written down: at random, the same seed would run otherwise, and what
/// is ready could be dropped for what has just become so. `lines` begin with the one to look at.
fn check_select(name: &str, lines: &[&str], rules: &mut Vec<String>) {
    let Some((_, after)) = lines.first().and_then(|line| line.split_once("select! {")) else { return };
    let mut code = std::iter::once(after).chain(lines[1..].iter().copied()).map(str::trim);
    let first = code.find(|line| !line.is_empty()).unwrap_or_default();
    if name.starts_with("src/") && !first.starts_with("biased;") {
        rules.push("select! without `biased;`: say which branch counts when several are ready".to_owned());
    }
}

/// The module of the engine that a file belongs to, and how many modules above it are within the crate.
fn engine_module(name: &str) -> Option<(&str, usize)> {
    let rest = name.strip_prefix("src/")?.strip_suffix(".rs")?;
    let parts: Vec<&str> = rest.split('/').filter(|part| *part != "mod").collect();
    let module = *parts.first()?;
    (module != "lib").then_some((module, parts.len()))
}

fn check_layers(name: &str, line: &str, rules: &mut Vec<String>) {
    let Some((module, depth)) = engine_module(name) else { return };
    if TOP.contains(&module) {
        return;
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == module) else { return };
    // `super::` once for each module above reaches the crate itself.
    let climb = format!("{}{{", "super::".repeat(depth));
    let climb = climb.trim_end_matches('{');
    for root in ["crate::", climb] {
        for target in imported(line, root) {
            if target != module && is_module(&target) && !allowed.contains(&target.as_str()) {
                rules.push(format!("{module} must not import {target}: see the layers in docs/architecture.md"));
            }
        }
    }
}

fn is_module(name: &str) -> bool {
    TOP.contains(&name) || LAYERS.iter().any(|(layer, _)| *layer == name)
}

/// First names after `root` in a line, also of a group: `crate::{a, b::c}`.
fn imported(line: &str, root: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in line.match_indices(root) {
        if line[..at].ends_with("super::") || line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &line[at + root.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            for part in group.split_inclusive([',', '{', '}']) {
                if depth == 0 {
                    names.push(first_name(part.trim()));
                }
                match part.chars().next_back() {
                    Some('{') => depth += 1,
                    Some('}') if depth == 0 => break,
                    Some('}') => depth -= 1,
                    _ => {}
                }
            }
        } else {
            names.push(first_name(rest));
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn first_name(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn check_members(name: &str, line: &str, rules: &mut Vec<String>) {
    let Some((member, allowed)) = MEMBERS.iter().find(|(member, _)| name.starts_with(&format!("{member}/"))) else {
        return;
    };
    for krate in ["tidelog", "tidelog_api", "tidelog_client", "tidelog_gateway", "tidelog_compactor"] {
        if names_path(line, krate) && !allowed.contains(&krate) {
            rules.push(format!("{member} must not name {krate}"));
        }
    }
    for target in imported(line, "tidelog::") {
        if INSIDE.contains(&target.as_str()) {
            rules.push(format!("{member} must not name tidelog::{target}: the facade is tidelog::queue"));
        }
    }
}

/// The lines of modules under `#[cfg(test)]`.
fn test_module_lines(code: &str) -> Vec<std::ops::Range<usize>> {
    let lines: Vec<&str> = code.lines().collect();
    let mut ranges = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if !line.trim().starts_with("#[cfg(test)]") && !line.trim().starts_with("#[cfg(all(test") {
            continue;
        }
        let mut depth = 0_usize;
        let mut opened = false;
        for (offset, line) in lines[number..].iter().enumerate() {
            opened |= line.contains('{');
            depth += line.matches('{').count();
            depth = depth.saturating_sub(line.matches('}').count());
            if (opened && depth == 0) || (!opened && line.trim_end().ends_with(';')) {
                ranges.push(number..number + offset + 1);
                break;
            }
        }
    }
    ranges
}

/// The text with comments, strings and characters blanked out, line breaks kept.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = token_end(bytes, at);
        if end > at {
            out.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment, string or character that begins at `at` ends; `at` itself if none begins there.
fn token_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return rest.windows(2).position(|pair| pair == b"*/").map_or(bytes.len(), |end| at + end + 2);
    }
    if !word_before && (rest.starts_with(b"r\"") || rest.starts_with(b"r#") || rest.starts_with(b"br")) {
        let prefix = usize::from(rest[0] == b'b') + 1;
        let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
        if rest.get(prefix + hashes) == Some(&b'"') {
            let close = [b"\"".as_slice(), "#".repeat(hashes).as_bytes()].concat();
            let body = prefix + hashes + 1;
            let found = rest[body..].windows(close.len()).position(|window| window == close);
            return found.map_or(bytes.len(), |end| at + body + end + close.len());
        }
        return at;
    }
    match rest[0] {
        b'"' => at + quoted_len(rest, b'"'),
        // A lifetime has no closing quote two places on, or after an escape.
        b'\'' if rest.get(1) == Some(&b'\\') || rest.get(2) == Some(&b'\'') => at + quoted_len(rest, b'\''),
        _ => at,
    }
}

fn quoted_len(rest: &[u8], quote: u8) -> usize {
    let mut place = 1;
    while place < rest.len() {
        match rest[place] {
            b'\\' => place += 1,
            byte if byte == quote => return place + 1,
            _ => {}
        }
        place += 1;
    }
    rest.len()
}

#[test]
fn violations_are_found() {
    let rules = |name: &str, text: &str| -> Vec<String> {
        check(name, &format!("//! x\n{text}\n")).into_iter().map(|(line, rule)| format!("{line}: {rule}")).collect()
    };
    assert_eq!(check("src/model/x.rs", "fn f() {}\n").len(), 1, "no header");
    assert_eq!(rules("src/model/x.rs", "use crate::state::State;").len(), 1);
    assert_eq!(rules("src/state/x.rs", "use crate::{model::A, clock::{B, C}, error};").len(), 1, "clock in state");
    assert_eq!(rules("src/fetch/x.rs", "use super::super::flush::Plan;").len(), 1, "siblings");
    assert_eq!(rules("src/fetch/x.rs", "use super::flush::Plan; use crate::state::State;"), [""; 0]);
    assert_eq!(rules("src/flush/mod.rs", "let a = openraft::Raft::new();").len(), 1);
    assert_eq!(rules("src/raft/node.rs", "use openraft::Raft;"), [""; 0]);
    assert_eq!(rules("client/src/x.rs", "use tidelog::model::Offset;").len(), 1);
    assert_eq!(rules("gateway/src/x.rs", "use tidelog::state::State;").len(), 1);
    assert_eq!(rules("cli/src/x.rs", "let a = b.unwrap();").len(), 1);
    assert_eq!(rules("src/raft/x.rs", "use std::fs; let a = std::fs::read(path);").len(), 1);
    assert_eq!(rules("src/shard/x.rs", "let a = tokio::fs::read(path);").len(), 1);
    assert_eq!(rules("src/flush/x.rs", "let a = tokio::task::spawn_blocking(work);").len(), 1);
    assert_eq!(rules("src/queue/x.rs", "let a = SystemTime::now();").len(), 1);
    assert_eq!(rules("src/disk/x.rs", "let a = std::fs::read(path);"), [""; 0]);
    assert_eq!(rules("cli/src/x.rs", "let a = std::fs::read(path);"), [""; 0], "the engine's rule");
    assert_eq!(rules("src/raft/x.rs", "#[cfg(test)]\nmod tests {\n    fn f() { std::fs::read(path); }\n}"), [""; 0]);
    assert_eq!(
        rules("src/shard/x.rs", "tokio::select! {\n    a = b => c,\n}"),
        ["2: select! without `biased;`: say which branch counts when several are ready"]
    );
    assert_eq!(rules("src/shard/x.rs", "tokio::select! {\n    // Why.\n\n    biased;\n    a = b => c,\n}"), [""; 0]);
    assert_eq!(
        rules(
            "cli/src/x.rs",
            "// b.unwrap()\nlet s = \"todo!\"; let c = '\"'; let l: &'static str = r#\"x.unwrap()\"#;"
        ),
        [""; 0]
    );
    assert_eq!(
        rules("cli/src/x.rs", "#[cfg(test)]\nmod tests {\n    fn f() { a.unwrap(); }\n}\nfn g() { a.unwrap(); }").len(),
        1
    );
    assert_eq!(rules("cli/src/x.rs", "pub struct FileManager;").len(), 1);
    assert_eq!(rules("cli/src/x.rs", &format!("// {}: later", concat!("TO", "DO"))).len(), 1);
    assert_eq!(rules("cli/src/x.rs", "eprintln!(\"x\");").len(), 0, "standard error is no pipe of ours");
    assert_eq!(check("src/model/x.rs", &format!("//! x\n{}", "\n".repeat(MAX_LINES))).len(), 1);
}
