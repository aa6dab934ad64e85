//! `tidelog topic`.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Map, Value};
use tidelog_api::topics::{SettingsRequest, TopicDescription, TopicSettings, TopicSummary};

use super::connect;
use crate::args::{Remote, TopicCommand};
use crate::exit::usage;
use crate::output::{self, Out, Table, grouped};

/// Runs one of the commands about topics.
pub(super) async fn run(command: TopicCommand) -> Result<()> {
    match command {
        TopicCommand::Create { remote, topic, partitions, settings } => {
            create(&remote, &topic, &parse_settings(partitions, &settings)?).await
        }
        TopicCommand::List { remote, prefix } => {
            let topics = connect(&remote)?.list_topics(&prefix).await?;
            if remote.json { output::json(&topics) } else { print_list(&topics) }
        }
        TopicCommand::Describe { remote, topic } => show(&remote, &connect(&remote)?.describe_topic(&topic).await?),
        TopicCommand::Alter { remote, topic, partitions, settings, rekey } => {
            let mut settings = parse_settings(partitions, &settings)?;
            settings.rekey = rekey.then_some(true);
            let (topic, _) = connect(&remote)?.topic(&topic).await?;
            show(&remote, &topic.alter(&settings).await?)
        }
        TopicCommand::Delete { remote, topic } => {
            let (topic, _) = connect(&remote)?.topic(&topic).await?;
            let deleted = topic.delete().await?;
            if remote.json {
                return output::json(&deleted);
            }
            output::line(&format!("topic {0} deleted; `tidelog topic undelete {0}` brings it back", deleted.name))
        }
        TopicCommand::Undelete { remote, topic } => {
            let description = connect(&remote)?.undelete_topic(&topic).await?;
            if remote.json { output::json(&description) } else { output::line(&format!("topic {topic} is back")) }
        }
        TopicCommand::Flush { remote, topic, archive, timeout } => flush(&remote, &topic, archive, timeout).await,
    }
}

async fn create(remote: &Remote, topic: &str, settings: &SettingsRequest) -> Result<()> {
    let (description, created) = connect(remote)?.create_topic(topic, settings).await?;
    if remote.json {
        return output::json(&description);
    }
    let what = if created { "created" } else { "exists with these settings" };
    let partitions = match description.settings.partitions {
        1 => "1 partition".to_owned(),
        partitions => format!("{partitions} partitions"),
    };
    output::line(&format!("topic {topic} {what} ({partitions})"))
}

async fn flush(remote: &Remote, topic: &str, archive: bool, timeout: Duration) -> Result<()> {
    let (topic, _) = connect(remote)?.topic(topic).await?;
    let report = topic.flush(archive, timeout).await?;
    if remote.json {
        output::json(&report)?;
    }
    let what = if archive { "archived" } else { "flushed" };
    if !report.done {
        bail!("topic {} is not {what} yet{}", topic.name(), what_becomes_of_it(remote, archive).await);
    }
    if remote.json {
        return Ok(());
    }
    let offsets: u64 = report.partitions.iter().map(|partition| partition.target).sum();
    output::line(&format!("topic {} {what} up to its high watermarks ({} offsets)", topic.name(), grouped(offsets)))
}

/// Whether what a flush has not done by now goes on.
async fn what_becomes_of_it(remote: &Remote, archive: bool) -> String {
    let jobs = match connect(remote) {
        Ok(client) => client.status().await.map(|status| status.jobs).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    // The archive is made of what was flushed.
    let needed = |name: &str| name == "flush" || (archive && name == "archive");
    match jobs.iter().find(|job| job.paused && needed(&job.name)) {
        Some(job) => format!(": {0} is paused, `tidelog admin resume {0}` lets it go on", job.name),
        None => ", it goes on in the background".to_owned(),
    }
}

/// Settings from `key=value` words: `null` names the default, digits are a number, anything else is a word.
pub(super) fn parse_settings(partitions: Option<u32>, words: &[String]) -> Result<SettingsRequest> {
    let mut members = Map::new();
    if let Some(partitions) = partitions {
        members.insert("partitions".to_owned(), partitions.into());
    }
    for word in words {
        let Some((name, text)) = word.split_once('=') else {
            return Err(usage(format!("--set {word}: write KEY=VALUE")));
        };
        let value = match text {
            "null" => Value::Null,
            _ => text.parse::<u64>().map_or_else(|_| Value::String(text.to_owned()), Value::from),
        };
        if name == "rekey" || members.insert(name.to_owned(), value).is_some() {
            return Err(usage(format!("--set {word}: {name} cannot be set here, or twice")));
        }
    }
    serde_json::from_value(Value::Object(members)).map_err(|error| usage(format!("--set: {error}")))
}

fn print_list(topics: &[TopicSummary]) -> Result<()> {
    if topics.is_empty() {
        return output::line("no topics; `tidelog topic create NAME` makes one");
    }
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "VALUE FORMAT", "RETENTION", "ID"]);
    for topic in topics {
        let settings = &topic.settings;
        table.row([
            topic.name.clone(),
            settings.partitions.to_string(),
            word(&settings.value_format),
            retention(settings),
            topic.topic_id.to_string(),
        ]);
    }
    table.print()
}

/// The word that a setting has in JSON.
fn word(setting: &impl serde::Serialize) -> String {
    match serde_json::to_value(setting) {
        Ok(Value::String(word)) => word,
        other => other.map_or_else(|_| String::new(), |value| value.to_string()),
    }
}

fn retention(settings: &TopicSettings) -> String {
    let mut parts = Vec::new();
    if let Some(millis) = settings.retention_ms {
        parts.push(duration(millis));
    }
    if let Some(bytes) = settings.retention_bytes {
        parts.push(format!("{} bytes a partition", grouped(bytes)));
    }
    if parts.is_empty() { "for ever".to_owned() } else { parts.join(", ") }
}

fn duration(millis: u64) -> String {
    humantime::format_duration(Duration::from_millis(millis)).to_string()
}

fn show(remote: &Remote, description: &TopicDescription) -> Result<()> {
    if remote.json {
        return output::json(description);
    }
    let settings = &description.settings;
    let mut out = Out::new();
    for (name, value) in [
        ("topic", description.name.clone()),
        ("id", description.topic_id.to_string()),
        ("value format", word(&settings.value_format)),
        ("retention", retention(settings)),
        ("archive after", duration(settings.archive_after_ms)),
        ("archive kept", settings.archive_retention_ms.map_or_else(|| "as long as the log".to_owned(), duration)),
        ("compression", word(&settings.compression)),
    ] {
        out.line(&format!("{name:<14}{value}"))?;
    }
    out.line("")?;
    let mut table = Table::new(&["PARTITION", "LOG START", "ARCHIVED", "FLUSHED", "HIGH WATERMARK", "LEADER"]);
    for partition in &description.partitions {
        table.row([
            partition.partition.to_string(),
            grouped(partition.log_start_offset),
            grouped(partition.archived_offset),
            grouped(partition.flushed_offset),
            grouped(partition.high_watermark),
            partition.leader.map_or_else(|| "none".to_owned(), |node| node.to_string()),
        ]);
    }
    out.table(&table)?;
    out.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::parse_settings;
    use tidelog_api::topics::ValueFormat;

    #[test]
    fn settings_are_words_numbers_or_null() {
        let words = ["value_format=json", "retention_ms=5", "retention_bytes=null"].map(str::to_owned);
        let settings = parse_settings(Some(4), &words).unwrap();
        assert_eq!(settings.partitions, Some(Some(4)));
        assert_eq!(settings.value_format, Some(Some(ValueFormat::Json)));
        assert_eq!((settings.retention_ms, settings.retention_bytes), (Some(Some(5)), Some(None)));
        assert_eq!(settings.archive_after_ms, None);
        for wrong in ["retention", "colour=red", "retention_ms=soon", "rekey=true", "partitions=2"] {
            assert!(parse_settings(Some(1), &[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
