#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Duration;

use super::{Config, NodeChoice, Sources};

fn file(text: &str) -> Sources {
    Sources { file: Some((PathBuf::from("tidelog.toml"), text.to_owned())), ..Sources::default() }
}

#[test]
fn defaults_are_valid_and_print_as_toml_that_parses_back() {
    let config = Config::default();
    assert_eq!(config.validate(), Ok(()));
    let printed = config.to_toml();
    assert!(printed.contains("bytes = \"16MiB\"") && printed.contains("interval = \"10s\""), "{printed}");
    assert_eq!(Config::load(&file(&printed)), Ok(config));
}

#[test]
fn changed_settings_print_as_toml_that_parses_back() {
    let text = "bucket = \"s3://b/p\"\n[flush]\nbytes = 1500000\ninterval = \"1s 500ms\"\n[http]\ncors_origins = [\"https://a.example\"]\n";
    let config = Config::load(&file(text)).unwrap();
    assert_eq!(config.flush.bytes, 1_500_000);
    assert_eq!(config.flush.interval, Duration::from_millis(1_500));
    assert_eq!(Config::load(&file(&config.to_toml())), Ok(config));
}

#[test]
fn a_cluster_is_described_by_file_environment_or_flags() {
    let nodes = |config: &Config| config.cluster.nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let text = "bucket = \"file:///b\"\n[peer]\nlisten = \"127.0.0.1:7072\"\n[cluster]\nnode_id = 2\nnodes = [\"1=a:7072\", \"2=b:7072\"]\nshards = 5\nroles = [\"gateway\", \"wal\"]\n[wal]\nkeep = \"1MiB\"\n";
    let mut sources = file(text);
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.cluster.node_id, Some(NodeChoice::Id(2)));
    assert_eq!(nodes(&config), ["1=a:7072", "2=b:7072"]);
    assert!(!config.cluster.is_compactor());
    assert_eq!((config.wal.keep, config.cluster.shards), (Some(1 << 20), Some(5)));
    assert_eq!(Config::load(&file(&config.to_toml())), Ok(config));
    sources.environment = vec![("TIDELOG__CLUSTER__NODE_ID".to_owned(), "auto".to_owned())];
    assert_eq!(Config::load(&sources).unwrap().cluster.node_id, Some(NodeChoice::Auto));
    sources.environment = vec![("TIDELOG__CLUSTER__SHARDS".to_owned(), "7".to_owned())];
    assert_eq!(Config::load(&sources).unwrap().cluster.shards, Some(7));
    sources.flags = vec![
        ("cluster.node_id", "--node-id", "3".to_owned()),
        ("cluster.nodes", "--cluster", "1=a:1, 3=c:1".to_owned()),
    ];
    let config = Config::load(&sources).unwrap();
    assert_eq!(
        (config.cluster.node_id, nodes(&config)),
        (Some(NodeChoice::Id(3)), vec!["1=a:1".to_owned(), "3=c:1".to_owned()])
    );
    sources.flags =
        vec![("cluster.nodes", "--cluster", "a:1".to_owned()), ("cluster.node_id", "--node-id", "x".to_owned())];
    let problems = Config::load(&sources).unwrap_err().problems;
    assert!(
        problems.iter().any(|problem| problem.starts_with("cluster.nodes (--cluster): \"a:1\" is not a node")),
        "{problems:?}"
    );
    assert!(problems.iter().any(|problem| problem.starts_with("cluster.node_id (--node-id)")), "{problems:?}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let mut sources = file("[http]\nlisten = \"127.0.0.1:1\"\nmax_followers = 7\n[gc]\nenabled = true\n");
    sources.environment = [
        ("TIDELOG__HTTP__LISTEN", "127.0.0.1:2"),
        ("TIDELOG__GC__ENABLED", "false"),
        ("TIDELOG__HTTP__CORS_ORIGINS", "http://a, http://b"),
        ("TIDELOG__BUCKET", "memory:///"),
        ("TIDELOG__LOG__SAMPLE", "1"),
        ("TIDELOG_SERVER", "not a setting"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    sources.flags = vec![("http.listen", "--listen", "127.0.0.1:3".to_owned())];
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.http.listen.port(), 3);
    assert_eq!(config.http.max_followers, 7);
    assert_eq!(config.http.cors_origins, ["http://a", "http://b"]);
    assert!(!config.gc.enabled);
    assert_eq!(config.bucket.as_deref(), Some("memory:///"));
}

#[test]
fn every_wrong_key_is_reported_with_its_origin() {
    let mut sources =
        file("[flush]\nbytes = \"many\"\ninterval = 10\nspeed = 1\n[wal.budget]\nx = 1\n[nosuch]\na = 1\n");
    sources.environment = vec![
        ("TIDELOG__GC__GRACE".to_owned(), "soon".to_owned()),
        ("TIDELOG__NO__SUCH".to_owned(), "1".to_owned()),
        ("TIDELOG__PRODUCE__IN_FLIGHT".to_owned(), "-1".to_owned()),
    ];
    let problems = Config::load(&sources).unwrap_err().problems;
    for part in [
        "flush.bytes (tidelog.toml): \"many\" is not a size",
        "flush.interval (tidelog.toml): not a duration",
        "flush.speed (tidelog.toml): there is no such setting",
        "wal.budget (tidelog.toml)",
        "nosuch (tidelog.toml): there is no such setting",
        "gc.grace (TIDELOG__GC__GRACE): \"soon\" is not a duration",
        "no.such (TIDELOG__NO__SUCH): there is no such setting",
        "produce.in_flight (TIDELOG__PRODUCE__IN_FLIGHT)",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part} is not among {problems:#?}");
    }
    assert_eq!(problems.len(), 8, "{problems:#?}");
    let broken = Config::load(&file("[flush")).unwrap_err();
    assert!(broken.problems[0].starts_with("tidelog.toml"), "{broken}");
}

#[test]
fn rules_between_settings_are_reported_together() {
    let text = "bucket = \"ftp://x\"\n[gc]\ngrace = \"30m\"\n[produce]\nmemory = \"1MiB\"\n[raft]\nheartbeat = \"1s\"\n\
                [log]\nsample = 2.0\n[http]\ncors_origins = [\"*\"]\n[flush]\nuploads = 0\n\
                [store]\nhedge_percent = 21\narchive_class = \"GLACIER\"\n";
    let problems = Config::load(&file(text)).unwrap_err().problems;
    for key in [
        "bucket",
        "gc.grace",
        "produce.memory",
        "raft.heartbeat",
        "log.sample",
        "http.cors_origins",
        "flush.uploads",
        "store.hedge_percent",
        "store.archive_class",
    ] {
        assert!(
            problems.iter().any(|problem| problem.starts_with(&format!("{key}:"))),
            "{key} is not among {problems:#?}"
        );
    }
    let graces = problems.iter().filter(|problem| problem.starts_with("gc.grace")).count();
    assert_eq!(graces, 2, "one for each deadline that is too long: {problems:#?}");
}

#[test]
fn the_default_bucket_is_beside_the_wal() {
    let config = Config { data_dir: PathBuf::from("/a b/data"), ..Config::default() };
    assert_eq!(config.bucket_url().unwrap(), "file:///a%20b/data/bucket");
    assert_eq!(config.wal_dir(), PathBuf::from("/a b/data/wal"));
}

#[test]
fn what_is_shown_to_others_has_no_credentials() {
    let shown = |bucket: &str| {
        let config = Config { bucket: Some(bucket.to_owned()), ..Config::default() };
        config.without_secrets().bucket.unwrap()
    };
    assert_eq!(shown("s3://AKIA:hunter2@bucket/a/prefix"), "s3://REDACTED@bucket/a/prefix");
    assert_eq!(shown("s3://AKIA:p@ss@bucket?token=hunter2"), "s3://REDACTED@bucket?REDACTED");
    for plain in ["s3://bucket/prefix", "file:///srv/a@b/data", "memory:///"] {
        assert_eq!(shown(plain), plain);
    }
}

#[test]
fn the_operations_page_lists_every_setting_with_its_default() {
    let page = include_str!("../../docs/operations.md");
    let defaults: toml::Table = Config::default().to_toml().parse().unwrap();
    let mut keys = vec![("bucket".to_owned(), "`bucket/` in `data_dir`".to_owned())];
    for (name, value) in &defaults {
        match value {
            toml::Value::Table(section) => {
                let values = section.iter().filter(|(_, value)| !value.is_table());
                keys.extend(values.map(|(key, value)| (format!("{name}.{key}"), format!("`{value}`"))));
            }
            value => keys.push((name.clone(), format!("`{value}`"))),
        }
    }
    for key in ["wal.keep", "cluster.node_id"] {
        keys.push((key.to_owned(), "not set".to_owned()));
    }
    for key in ["http.tls.cert", "http.tls.key", "admin.tls.cert", "admin.tls.key", "auth.tokens_file"] {
        keys.push((key.to_owned(), "not set".to_owned()));
    }
    for key in ["peer.listen", "peer.advertise", "peer.tls.cert", "peer.tls.key", "peer.tls.ca"] {
        keys.push((key.to_owned(), "not set".to_owned()));
    }
    for (key, value) in keys {
        let line = format!("| `{key}` | {} |", value.replace('"', ""));
        assert!(page.contains(&line), "docs/operations.md does not have a line that begins with\n{line}");
    }
}
