//! Traffic by topic, bounded: the busiest topics have series of their own, the rest share `other`.
//!
//! These series do not go through the recorder, which cannot take one back. Which topics are the busiest is decided
//! anew at each rendering. A topic that falls out loses its series, one that comes in starts at zero (to a scraper a
//! counter reset), and `other` only ever grows by what was counted for it, so that every series is a true counter.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Records and bytes, in and out: the series of a topic.
pub(super) const SERIES: [(&str, &str); 4] = [
    (
        "tidelog_topic_produced_records_total",
        "Records produced, by topic; the topics that are not among the busiest are other",
    ),
    ("tidelog_topic_produced_bytes_total", "Encoded bytes produced, by topic"),
    ("tidelog_topic_fetched_records_total", "Records fetched, by topic"),
    ("tidelog_topic_fetched_bytes_total", "Encoded bytes fetched, by topic"),
];

/// The label of the topics without series of their own. A topic of that very name is always one of them.
const OTHER: &str = "other";
/// Topics that are watched for becoming busy, as a multiple of those with series of their own.
const WATCHED_FACTOR: usize = 8;

/// Which way records went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into the queue.
    Produced,
    /// Out of it.
    Fetched,
}

/// Bytes of a topic since the start, or since it was ranked among the busiest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTotals {
    /// Its name, or `other` for all that are not ranked.
    pub topic: String,
    /// Encoded bytes produced.
    pub produced_bytes: u64,
    /// Encoded bytes fetched.
    pub fetched_bytes: u64,
}

#[derive(Debug, Default)]
struct Counts([AtomicU64; SERIES.len()]);

impl Counts {
    fn add(&self, direction: Direction, records: u64, bytes: u64) {
        let first = match direction {
            Direction::Produced => 0,
            Direction::Fetched => 2,
        };
        self.0[first].fetch_add(records, Ordering::Relaxed);
        self.0[first + 1].fetch_add(bytes, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Watched {
    /// Whether the topic has series of its own.
    named: AtomicBool,
    counts: Counts,
    /// Bytes since the last rendering, and a decaying memory of those before.
    recent: AtomicU64,
    score: AtomicU64,
}

/// The traffic of all topics of a process.
#[derive(Debug)]
pub struct TopicTraffic {
    named: usize,
    topics: RwLock<HashMap<String, Arc<Watched>>>,
    other: Counts,
}

impl TopicTraffic {
    /// Traffic with at most `named` topics that have series of their own.
    #[must_use]
    pub fn new(named: usize) -> Self {
        Self { named, topics: RwLock::default(), other: Counts::default() }
    }

    /// Counts records and encoded bytes of `topic`.
    pub fn add(&self, topic: &str, direction: Direction, records: u64, bytes: u64) {
        let known = self.topics.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned();
        let Some(watched) = known.or_else(|| if topic == OTHER { None } else { self.watch(topic) }) else {
            return self.other.add(direction, records, bytes);
        };
        watched.recent.fetch_add(bytes.max(1), Ordering::Relaxed);
        let counts = if watched.named.load(Ordering::Relaxed) { &watched.counts } else { &self.other };
        counts.add(direction, records, bytes);
    }

    /// Begins to watch a topic, if there is room until the next rendering makes some.
    fn watch(&self, topic: &str) -> Option<Arc<Watched>> {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = topics.get(topic) {
            return Some(Arc::clone(watched));
        }
        if topics.len() >= self.named.saturating_mul(WATCHED_FACTOR) {
            return None;
        }
        let named = topics.values().filter(|watched| watched.named.load(Ordering::Relaxed)).count();
        let watched = Arc::new(Watched { named: AtomicBool::new(named < self.named), ..Watched::default() });
        topics.insert(topic.to_owned(), Arc::clone(&watched));
        Some(watched)
    }

    /// Ranks the topics and appends their series in Prometheus' text format.
    pub fn render(&self, text: &mut String) {
        let named = self.rank();
        for (index, (name, help)) in SERIES.iter().enumerate() {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
            let value = |counts: &Counts| counts.0[index].load(Ordering::Relaxed);
            for (topic, watched) in &named {
                let _ = writeln!(text, "{name}{{namespace=\"default\",topic=\"{topic}\"}} {}", value(&watched.counts));
            }
            let _ = writeln!(text, "{name}{{namespace=\"default\",topic=\"{OTHER}\"}} {}", value(&self.other));
        }
    }

    /// The bytes of the topics with series of their own, by name, and of the others.
    #[must_use]
    pub fn totals(&self) -> Vec<TopicTotals> {
        let total = |topic: &str, counts: &Counts| TopicTotals {
            topic: topic.to_owned(),
            produced_bytes: counts.0[1].load(Ordering::Relaxed),
            fetched_bytes: counts.0[3].load(Ordering::Relaxed),
        };
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let named = topics.iter().filter(|(_, watched)| watched.named.load(Ordering::Relaxed));
        let mut totals: Vec<_> = named.map(|(topic, watched)| total(topic, &watched.counts)).collect();
        totals.sort_by(|left, right| left.topic.cmp(&right.topic));
        totals.push(total(OTHER, &self.other));
        totals
    }

    /// The busiest topics, by name; the least busy of the rest are no longer watched if there are many.
    fn rank(&self) -> Vec<(String, Arc<Watched>)> {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let mut ranked: Vec<_> = topics.iter().map(|(topic, watched)| (topic.clone(), Arc::clone(watched))).collect();
        for (_, watched) in &ranked {
            let recent = watched.recent.swap(0, Ordering::Relaxed);
            let score = (watched.score.load(Ordering::Relaxed) / 2).saturating_add(recent);
            watched.score.store(score, Ordering::Relaxed);
        }
        ranked.sort_by(|(left, a), (right, b)| {
            let score = |watched: &Watched| watched.score.load(Ordering::Relaxed);
            score(b).cmp(&score(a)).then_with(|| left.cmp(right))
        });
        for (place, (topic, watched)) in ranked.iter().enumerate() {
            let is_named = place < self.named;
            if !is_named && watched.named.swap(false, Ordering::Relaxed) {
                watched.counts.0.iter().for_each(|count| count.store(0, Ordering::Relaxed));
            }
            watched.named.store(is_named, Ordering::Relaxed);
            if place >= self.named.saturating_mul(WATCHED_FACTOR / 2) {
                topics.remove(topic);
            }
        }
        ranked.truncate(self.named);
        ranked.sort_by(|(left, _), (right, _)| left.cmp(right));
        ranked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn produced(text: &str, topic: &str) -> Option<u64> {
        let series = format!("{}{{namespace=\"default\",topic=\"{topic}\"}} ", SERIES[0].0);
        text.lines().find_map(|line| line.strip_prefix(&series))?.parse().ok()
    }

    fn rendered(traffic: &TopicTraffic) -> String {
        let mut text = String::new();
        traffic.render(&mut text);
        text
    }

    #[test]
    fn the_busiest_topics_have_series_and_the_rest_share_one() {
        let traffic = TopicTraffic::new(2);
        for (topic, bytes) in [("a", 10), ("b", 20), ("c", 3_000), ("d", 4_000)] {
            traffic.add(topic, Direction::Produced, 1, bytes);
        }
        let text = rendered(&traffic);
        // c and d were counted as others until the ranking found them busier.
        assert_eq!(
            ["a", "b", "c", "d", OTHER].map(|topic| produced(&text, topic)),
            [None, None, Some(0), Some(0), Some(2)]
        );
        traffic.add("d", Direction::Produced, 5, 50);
        traffic.add("a", Direction::Produced, 7, 1);
        let text = rendered(&traffic);
        assert_eq!(produced(&text, "d"), Some(5));
        assert_eq!(produced(&text, OTHER), Some(9), "a falls to the others");
    }

    #[test]
    fn any_number_of_topics_is_bounded() {
        let traffic = TopicTraffic::new(3);
        for round in 0..4u64 {
            for index in 0..1_000u64 {
                traffic.add(&format!("t{index}"), Direction::Fetched, 1, index + round);
            }
            assert_eq!(rendered(&traffic).lines().count(), SERIES.len() * (2 + 3 + 1));
            assert!(traffic.topics.read().is_ok_and(|topics| topics.len() <= 3 * WATCHED_FACTOR));
        }
    }
}
