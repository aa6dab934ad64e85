//! Produce: four content types on two routes, one answer.

mod answer;

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderMap;
use http::request::Parts;
use tidelog::model::{Acks, Payload, ProduceRequest, ProducerId, TopicId, Triple};
use tidelog_api::produce::{ProduceBody, ProduceResponse};
use tidelog_api::{ErrorBody, ErrorCode, headers, limits};

use self::answer::respond;
use super::offload;
use crate::app::App;
use crate::body::{Admitted, Arriving, BodyReader};
use crate::error::{ApiError, Result};
use crate::negotiate::{Media, negotiate, unsupported};
use crate::params::{Params, PartitionPath, TopicName, parse_number, parse_partition, topic_name};
use crate::parse::json;
use crate::parse::ndjson::NdjsonParser;
use crate::parse::octets::Envelope;

const TAKEN: [Media; 4] = [Media::Json, Media::Ndjson, Media::Octets, Media::Batch];

/// Append records; the partition is chosen by `partition`, else by key, else in turn
#[utoipa::path(post, path = "/v1/topics/{topic}/records", tag = "records",
    params(("topic" = String, Path),
        ("acks" = Option<String>, Query, description = "quorum (default), object or none"),
        ("timeout_ms" = Option<u64>, Query, description = "Default 10,000, at most 60,000"),
        ("topic_id" = Option<String>, Query),
        ("key" = Option<String>, Query, description = "Of an application/octet-stream body; also key_base64, timestamp, null=true"),
        ("Idempotency-Key" = Option<String>, Header, description = "1-64 visible ASCII characters")),
    request_body(description = "Also application/x-ndjson: one such record a line; application/octet-stream: one value",
        content = inline(ProduceBody<'static>)),
    responses(
        (status = 200, description = "Written", body = ProduceResponse),
        (status = 202, description = "acks=none: no promise", body = ProduceResponse),
        (status = "default", description = "details.records has the result of each record if some were written", body = ErrorBody)))]
pub(crate) async fn to_topic(
    State(app): State<App>,
    TopicName(topic): TopicName,
    params: Params,
    request: Request,
) -> Result<Response> {
    let (head, body) = request.into_parts();
    produce(&app, topic, None, params, (&head.headers, body)).await
}

/// Append records to one partition
#[utoipa::path(post, path = "/v1/topics/{topic}/partitions/{partition}/records", tag = "records",
    params(("topic" = String, Path), ("partition" = u32, Path),
        ("acks" = Option<String>, Query, description = "quorum (default), object or none"),
        ("timeout_ms" = Option<u64>, Query), ("topic_id" = Option<String>, Query),
        ("Producer-Id" = Option<u64>, Header), ("Producer-Epoch" = Option<u16>, Header),
        ("Producer-Sequence" = Option<u32>, Header, description = "Of the first record; all three or none"),
        ("Expected-Offset" = Option<u64>, Header, description = "Append only if the first record gets this offset"),
        ("Idempotency-Key" = Option<String>, Header)),
    request_body(description = "Also application/x-ndjson, application/octet-stream, application/vnd.tidelog.batch",
        content = inline(ProduceBody<'static>)),
    responses(
        (status = 200, body = ProduceResponse), (status = 202, body = ProduceResponse),
        (status = "default", body = ErrorBody)))]
pub(crate) async fn to_partition(
    State(app): State<App>,
    path: PartitionPath,
    params: Params,
    request: Request,
) -> Result<Response> {
    let (head, body) = request.into_parts();
    produce(&app, path.topic, Some(path.partition), params, (&head.headers, body)).await
}

/// The template of the route that `path` is, if it is one of the two and has nothing to decode.
pub(crate) fn route_of(path: &str) -> Option<&'static str> {
    Some(match target(path)? {
        (_, None) => "/v1/topics/{topic}/records",
        (_, Some(_)) => "/v1/topics/{topic}/partitions/{partition}/records",
    })
}

/// The handler of both routes for whoever knows by [`route_of`] that it is one of them.
pub(crate) async fn direct(app: &App, head: &Parts, body: impl Arriving) -> Result<Response> {
    let Some((topic, partition)) = target(head.uri.path()) else {
        return Err(ApiError::new(ErrorCode::RouteNotFound, "there is no such route"));
    };
    let topic = topic_name(topic.to_owned())?;
    let partition = partition.map(parse_partition).transpose()?;
    let params = Params::parse(head.uri.query().unwrap_or_default())?;
    produce(app, topic, partition, params, (&head.headers, body)).await
}

/// Topic and partition in a path.
fn target(path: &str) -> Option<(&str, Option<&str>)> {
    let target = path.strip_prefix("/v1/topics/")?.strip_suffix("/records")?;
    let (topic, partition) = match target.split_once('/') {
        None => (target, None),
        Some((topic, rest)) => (topic, Some(rest.strip_prefix("partitions/")?)),
    };
    let is_plain = |part: &str| !part.is_empty() && !part.contains(['/', '%']);
    (is_plain(topic) && partition.is_none_or(is_plain)).then_some((topic, partition))
}

async fn produce(
    app: &App,
    topic: String,
    partition: Option<u32>,
    mut params: Params,
    (headers, body): (&HeaderMap, impl Arriving),
) -> Result<Response> {
    negotiate(headers, &[Media::Json])?;
    let head = Head::take(&mut params, headers)?;
    let media = Media::of_body(headers, &TAKEN)?.ok_or_else(|| unsupported(&TAKEN, ""))?;
    let envelope = match media {
        Media::Octets => Some(Envelope::take(&mut params, text_of(headers, headers::RECORD_HEADERS)?)?),
        _ => None,
    };
    params.finish()?;
    let reader = app.bodies().read(headers, body).await?;
    let now = app.now();
    let (payload, _admitted) = read_payload(reader, media, envelope, now).await?;
    let acks = head.acks;
    let request = ProduceRequest {
        topic: topic.clone(),
        topic_id: head.topic_id,
        partition,
        payload,
        acks,
        timeout: head.timeout,
        triple: head.triple,
        idempotency_key: head.idempotency_key,
        expected_offset: head.expected_offset,
        now: now.cast_unsigned(),
    };
    let produced = app.queue().produce(request).await.map_err(|error| ApiError::from(error).about_topic(&topic))?;
    respond(produced, acks)
}

/// What query and headers say of a produce request.
struct Head {
    topic_id: Option<TopicId>,
    acks: Acks,
    timeout: Duration,
    triple: Option<Triple>,
    idempotency_key: Option<String>,
    expected_offset: Option<u64>,
}

impl Head {
    fn take(params: &mut Params, headers: &HeaderMap) -> Result<Self> {
        Ok(Self {
            topic_id: params.topic_id()?,
            acks: params.acks()?,
            timeout: params.millis("timeout_ms", limits::DEFAULT_PRODUCE_TIMEOUT_MS, limits::MAX_PRODUCE_TIMEOUT_MS)?,
            triple: triple_of(headers)?,
            idempotency_key: text_of(headers, headers::IDEMPOTENCY_KEY)?.map(str::to_owned),
            expected_offset: number_of(headers, headers::EXPECTED_OFFSET)?,
        })
    }
}

/// The text of a header that may be there once.
fn text_of<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::parameter(name, format!("the header {name} is given twice")));
    }
    value.to_str().map(Some).map_err(|_| ApiError::parameter(name, format!("the header {name} is not visible ASCII")))
}

fn number_of(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>> {
    text_of(headers, name)?.map(|text| parse_number(name, text)).transpose()
}

fn triple_of(headers: &HeaderMap) -> Result<Option<Triple>> {
    let id = number_of(headers, headers::PRODUCER_ID)?;
    let epoch = number_of(headers, headers::PRODUCER_EPOCH)?;
    let sequence = number_of(headers, headers::PRODUCER_SEQUENCE)?;
    let narrow = |name: &'static str| ApiError::parameter(name, format!("the header {name} is too large"));
    match (id, epoch, sequence) {
        (None, None, None) => Ok(None),
        (Some(id), Some(epoch), Some(sequence)) => Ok(Some(Triple {
            id: ProducerId(id),
            epoch: u16::try_from(epoch).map_err(|_| narrow(headers::PRODUCER_EPOCH))?,
            sequence: u32::try_from(sequence).map_err(|_| narrow(headers::PRODUCER_SEQUENCE))?,
        })),
        _ => {
            let message = "producer-id, producer-epoch and producer-sequence come together or not at all";
            Err(ApiError::parameter(headers::PRODUCER_ID, message))
        }
    }
}

async fn read_payload<B: Arriving>(
    mut reader: BodyReader<B>,
    media: Media,
    envelope: Option<Envelope>,
    now: i64,
) -> Result<(Payload, Admitted)> {
    match (media, envelope) {
        (Media::Ndjson, _) => {
            let mut parser = NdjsonParser::new(now);
            while let Some(chunk) = reader.next().await? {
                parser.push(chunk)?;
            }
            Ok((Payload::Records(parser.finish()?), reader.into_admitted()))
        }
        (Media::Octets, Some(envelope)) => {
            let (body, admitted) = reader.collect().await?;
            Ok((Payload::Records(vec![(None, envelope.seal(body, now)?)]), admitted))
        }
        (Media::Batch, _) => {
            let (body, admitted) = reader.collect().await?;
            Ok((Payload::Batch(body), admitted))
        }
        _ => {
            let (body, admitted) = reader.collect().await?;
            let records = offload(body.len(), move || json::parse(&body, now)).await?;
            Ok((Payload::Records(records), admitted))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderValue;

    use super::*;

    fn triple(headers: &[(&'static str, &'static str)]) -> Result<Option<Triple>> {
        let headers =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        triple_of(&headers.collect())
    }

    #[test]
    fn plain_paths_are_told_from_those_of_the_table() {
        assert_eq!(target("/v1/topics/a/records"), Some(("a", None)));
        assert_eq!(target("/v1/topics/a/partitions/7/records"), Some(("a", Some("7"))));
        assert_eq!(target("/v1/topics/a/partitions/x/records"), Some(("a", Some("x"))));
        for other in [
            "/v1/topics/a",
            "/v1/topics//records",
            "/v1/topics/records",
            "/v1/topics/a%20b/records",
            "/v1/topics/a/b/records",
            "/v1/topics/a/partitions/records",
            "/v1/topics/a/partitions//records",
            "/v1/topics/a/partitions/1/2/records",
            "/v1/topics/a/partitions/%31/records",
            "/v1/topics/a/records/",
            "/v2/topics/a/records",
        ] {
            assert_eq!(target(other), None, "{other}");
        }
    }

    #[test]
    fn producer_headers_come_together() {
        assert_eq!(triple(&[]).unwrap(), None);
        let all = [("producer-id", "5"), ("producer-epoch", "2"), ("producer-sequence", "2147483647")];
        assert_eq!(triple(&all).unwrap(), Some(Triple { id: ProducerId(5), epoch: 2, sequence: (1 << 31) - 1 }));
        for missing in 0..3 {
            let some: Vec<_> = all.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, pair)| *pair).collect();
            assert!(triple(&some).is_err());
        }
        assert!(triple(&[("producer-id", "5"), ("producer-epoch", "65536"), ("producer-sequence", "0")]).is_err());
        assert!(triple(&[("producer-id", "-5"), ("producer-epoch", "0"), ("producer-sequence", "0")]).is_err());
    }
}
