//! What this process used of the bucket and the network, and an estimate of its price.

use axum::response::Response;
use http::StatusCode;
use tidelog::metrics::cost::{self, BucketJob, JobUse, Prices};
use tidelog::metrics::{self, TopicTotals};
use tidelog_api::ErrorBody;
use tidelog_api::cost::{Cost, CostOfJob, CostOfPeers, CostOfTopic, CostPrices};

use super::call::Call;
use super::json;
use crate::error::Result;

/// What the process used of the bucket and the network since its start, and an estimate of its price
#[utoipa::path(get, path = "/v1/cost", tag = "operation",
    responses((status = 200, body = Cost), (status = "default", body = ErrorBody)))]
pub(crate) async fn cost(call: Call) -> Result<Response> {
    let app = call.finish()?;
    let (used, prices) = (cost::used(), cost::prices());
    let of = |job: BucketJob| used.jobs[job as usize].spent(&prices).total();
    let topics = shares(&metrics::topic_totals(), of(BucketJob::Flush) + of(BucketJob::Archive), of(BucketJob::Fetch));
    let spent = used.spent(&prices);
    json(
        StatusCode::OK,
        &Cost {
            currency: app.queue().config().cost.currency.clone(),
            seconds: metrics::uptime().as_secs_f64(),
            total: spent.total(),
            prices: CostPrices {
                put_per_1000: prices.put_per_1000,
                get_per_1000: prices.get_per_1000,
                read_per_gib: prices.read_per_gib,
                written_per_gib: prices.written_per_gib,
                peer_per_gib: prices.peer_per_gib,
            },
            jobs: BucketJob::ALL.iter().zip(&used.jobs).map(|(job, did)| of_job(*job, did, &prices)).collect(),
            peers: CostOfPeers { sent_bytes: used.sent, received_bytes: used.received, price: spent.peer },
            topics,
        },
    )
}

fn of_job(job: BucketJob, did: &JobUse, prices: &Prices) -> CostOfJob {
    let [puts, put_parts, gets, deletes, lists] = did.calls;
    CostOfJob {
        job: job.name().to_owned(),
        puts,
        put_parts,
        gets,
        deletes,
        lists,
        written_bytes: did.written,
        read_bytes: did.read,
        price: did.spent(prices).total(),
    }
}

/// Spreads the price of writing by the bytes that each topic took, and that of reading by those it gave.
#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn shares(topics: &[TopicTotals], writing: f64, reading: f64) -> Vec<CostOfTopic> {
    let produced: u64 = topics.iter().map(|topic| topic.produced_bytes).sum();
    let fetched: u64 = topics.iter().map(|topic| topic.fetched_bytes).sum();
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let of = |topic: &TopicTotals| CostOfTopic {
        topic: topic.topic.clone(),
        produced_bytes: topic.produced_bytes,
        fetched_bytes: topic.fetched_bytes,
        price: writing * share(topic.produced_bytes, produced) + reading * share(topic.fetched_bytes, fetched),
    };
    topics.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_bears_its_share_of_what_was_written_and_read() {
        let topic = |name: &str, produced_bytes, fetched_bytes| TopicTotals {
            topic: name.to_owned(),
            produced_bytes,
            fetched_bytes,
        };
        let prices = |topics: &[TopicTotals]| -> Vec<f64> {
            shares(topics, 8.0, 2.0).into_iter().map(|topic| topic.price).collect()
        };
        assert_eq!(prices(&[topic("a", 75, 0), topic("b", 25, 10)]), [6.0, 4.0]);
        assert_eq!(prices(&[topic("other", 0, 0)]), [0.0]);
    }
}
