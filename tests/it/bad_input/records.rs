//! Bodies of records in JSON, NDJSON and octets, their compression, and the headers that go with them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Case, case};

const TOPIC: &str = "/v1/topics/t/records";
const PARTITION: &str = "/v1/topics/t/partitions/0/records";
const GOOD: &str = "{\"records\":[{\"value\":1}]}";

pub(super) fn cases() -> Vec<Case> {
    [json(), members(), values(), ndjson(), octets(), bodies(), headers()].concat()
}

fn json() -> Vec<Case> {
    let post = |name, body: &str| case(name, "POST", TOPIC, body);
    let two = |second: &str| format!("{{\"records\":[{{\"value\":1}},{second}]}}");
    vec![
        post("an empty body", " ").is(400, "invalid_json"),
        post("JSON cut short", "{\"records\":[{\"value\":1}").is(400, "invalid_json"),
        post("JSON and more", &format!("{GOOD}{GOOD}")).is(400, "invalid_json"),
        post("JSON with a comma too many", "{\"records\":[{\"value\":1},]}").is(400, "invalid_json"),
        post("JSON with NaN", "{\"records\":[{\"value\":NaN}]}").is(400, "invalid_json"),
        post("JSON with a leading zero", "{\"records\":[{\"value\":01}]}").is(400, "invalid_json"),
        post("JSON with a byte order mark", &format!("\u{feff}{GOOD}")).is(400, "invalid_json"),
        post("a control character in a string", "{\"records\":[{\"text\":\"\u{1}\"}]}").is(400, "invalid_json"),
        post("not UTF-8 in JSON", "")
            .body(b"{\"records\":[{\"text\":\"\xff\"}]}".to_vec())
            .header("content-type", "application/json")
            .is(400, "invalid_json"),
        post("half a surrogate pair", "{\"records\":[{\"text\":\"\\ud800\"}]}").is(400, "invalid_json"),
        post("records that are an array", "[{\"value\":1}]").is(422, "invalid_request"),
        post("records that are a word", "\"records\"").is(422, "invalid_request"),
        post("no records member", "{}").is(422, "invalid_request").says("records"),
        post("records of null", "{\"records\":null}").is(422, "invalid_request"),
        post("no records in it", "{\"records\":[]}").is(422, "invalid_request"),
        post("a member of nobody beside records", "{\"records\":[{\"value\":1}],\"acks\":\"all\"}")
            .is(422, "invalid_request"),
        post("records twice", "{\"records\":[{\"value\":1}],\"records\":[{\"value\":2}]}").is(422, "invalid_request"),
        post("a record that is a number", &two("5")).is(422, "invalid_record").detail("index", 1),
        post("a record that is a list", &two("[1]")).is(422, "invalid_record").detail("index", 1),
        post("too many records", &format!("{{\"records\":[{}{{\"value\":1}}]}}", "{\"value\":1},".repeat(10_000)))
            .is(413, "too_many_records"),
    ]
}

fn members() -> Vec<Case> {
    // The second record is the wrong one.
    let second = |name, record: &str| {
        case(name, "POST", TOPIC, &format!("{{\"records\":[{{\"value\":1}},{record}]}}"))
            .is(422, "invalid_record")
            .detail("index", 1)
    };
    vec![
        second("no value", "{\"key\":\"k\"}").says("value"),
        second("two values", "{\"value\":1,\"text\":\"1\"}"),
        second("a value twice", "{\"value\":1,\"value\":2}"),
        second("an unknown member", "{\"value\":1,\"offset\":7}").says("offset"),
        second("a key of another type", "{\"value\":1,\"key\":5}"),
        second("two keys", "{\"value\":1,\"key\":\"a\",\"key_base64\":\"YQ==\"}"),
        second("text of another type", "{\"text\":5}"),
        second("bad base64", "{\"base64\":\"%%%\"}").says("base64"),
        second("base64 with bits left over", "{\"base64\":\"AB\"}"),
        second("base64 of the URL alphabet", "{\"base64\":\"-_8=\"}"),
        second("a bad binary key", "{\"value\":1,\"key_base64\":\"A\"}"),
        second("a timestamp in words", "{\"value\":1,\"timestamp\":\"now\"}"),
        second("a negative timestamp", "{\"value\":1,\"timestamp\":-1}"),
        second("a timestamp with a fraction", "{\"value\":1,\"timestamp\":1.5}"),
        second("a timestamp far ahead", "{\"value\":1,\"timestamp\":9007199254740991}"),
        second("a timestamp beyond 64 bits", "{\"value\":1,\"timestamp\":99999999999999999999}"),
        second("a partition in words", "{\"value\":1,\"partition\":\"0\"}"),
        second("a negative partition of a record", "{\"value\":1,\"partition\":-1}"),
        second("headers that are a number", "{\"value\":1,\"headers\":5}"),
        second("a header of one", "{\"value\":1,\"headers\":[[\"a\"]]}"),
        second("a header of three", "{\"value\":1,\"headers\":[[\"a\",\"b\",\"c\"]]}"),
        second("a header named by null", "{\"value\":1,\"headers\":[[null,\"b\"]]}"),
        second("a header of bad base64", "{\"value\":1,\"headers\":[[\"a\",{\"base64\":\"*\"}]]}"),
        second(
            "too many headers",
            &format!("{{\"value\":1,\"headers\":[{}[\"a\",\"b\"]]}}", "[\"a\",\"b\"],".repeat(64)),
        ),
        second("a value too deep", &format!("{{\"value\":{}{}}}", "[".repeat(65), "]".repeat(65))).says("64"),
    ]
}

fn values() -> Vec<Case> {
    let deep = "[".repeat(100_000);
    let large = format!("{{\"records\":[{{\"value\":1}},{{\"text\":\"{}\"}}]}}", "x".repeat((1 << 20) + 1));
    let many = format!("{{\"text\":\"{}\",\"partition\":0}}", "x".repeat(1 << 20));
    let partition = format!("{{\"records\":[{}]}}", [many.as_str(); 5].join(","));
    let to = |name, path: &str, body: &str| case(name, "POST", path, body);
    vec![
        to("a value that never ends", TOPIC, &format!("{{\"records\":[{{\"value\":{deep}")).is(400, "invalid_json"),
        to("a record too large", TOPIC, &large).is(413, "record_too_large").detail("index", 1),
        to("too much for one partition", TOPIC, &partition).is(413, "batch_too_large").detail("partition", 0),
        to("text in a topic of JSON", "/v1/topics/json/records", "{\"records\":[{\"value\":1},{\"text\":\"{\"}]}")
            .is(422, "invalid_record")
            .detail("index", 1),
        to("bytes in a topic of text", "/v1/topics/text/records", "{\"records\":[{\"base64\":\"/w==\"}]}")
            .is(422, "invalid_record")
            .detail("index", 0),
        to("a partition that no record can have", TOPIC, "{\"records\":[{\"value\":1,\"partition\":2}]}")
            .is(404, "partition_not_found")
            .detail("index", 0),
        to("a record for another partition than the route", PARTITION, "{\"records\":[{\"value\":1,\"partition\":1}]}")
            .is(422, "invalid_record")
            .detail("index", 0),
        to("records for no partition", "/v1/topics/t/partitions/7/records", GOOD).is(404, "partition_not_found"),
        to("records for no topic", "/v1/topics/none/records", GOOD).is(404, "topic_not_found"),
        to("records for another topic", &format!("{TOPIC}?topic_id=00000000-0000-4000-8000-000000000000"), GOOD)
            .is(409, "topic_replaced"),
        to("records under a bad name", "/v1/topics/%2e/records", GOOD).is(400, "invalid_topic_name"),
        to("acks of nobody", &format!("{TOPIC}?acks=all"), GOOD)
            .is(400, "invalid_parameter")
            .detail("parameter", "acks"),
        to("acks twice", &format!("{TOPIC}?acks=none&acks=quorum"), GOOD).is(400, "invalid_parameter"),
        to("a misspelt parameter", &format!("{TOPIC}?ack=object"), GOOD).is(400, "invalid_parameter"),
        to("a negative timeout", &format!("{TOPIC}?timeout_ms=-1"), GOOD).is(400, "invalid_parameter"),
        to("a key beside records", &format!("{TOPIC}?key=k"), GOOD).is(400, "invalid_parameter"),
    ]
}

fn ndjson() -> Vec<Case> {
    let post = |name, body: &str| case(name, "POST", TOPIC, body).header("content-type", "application/x-ndjson");
    vec![
        post("no lines", "\n\n").is(422, "invalid_request"),
        post("a line cut short", "{\"value\":1}\n{\"value\":").is(400, "invalid_json").detail("index", 1),
        post("a line that is no record", "{\"value\":1}\n\n7\n").is(422, "invalid_record").detail("index", 1),
        post("a line with an unknown member", "{\"value\":1}\n{\"value\":1,\"x\":1}\n")
            .is(422, "invalid_record")
            .detail("index", 1),
        post("two records on a line", "{\"value\":1}{\"value\":2}\n").is(400, "invalid_json").detail("index", 0),
        post("an array of records as lines", GOOD).is(422, "invalid_record").detail("index", 0),
        post("a line that is not UTF-8", "")
            .body(b"{\"value\":1}\n{\"text\":\"\xc3\"}\n".to_vec())
            .is(400, "invalid_json"),
        post("too many lines", &"{\"value\":1}\n".repeat(10_001)).is(413, "too_many_records"),
        post("a line too large", &format!("{{\"text\":\"{}\"}}\n", "x".repeat((1 << 20) + 1)))
            .is(413, "record_too_large")
            .detail("index", 0),
    ]
}

fn octets() -> Vec<Case> {
    let post = |name, query: &str| {
        case(name, "POST", &format!("{TOPIC}?{query}"), "v").header("content-type", "application/octet-stream")
    };
    vec![
        post("two keys of octets", "key=a&key_base64=YQ").is(400, "invalid_parameter"),
        post("a bad key of octets", "key_base64=*").is(400, "invalid_parameter").detail("parameter", "key_base64"),
        post("a time of octets in words", "timestamp=now").is(400, "invalid_parameter"),
        post("octets from the far future", "timestamp=9007199254740991").is(422, "invalid_record"),
        post("a null with a body", "null=true").is(422, "invalid_record"),
        post("a null of nobody", "null=yes").is(400, "invalid_parameter"),
        post("headers of octets that are not UTF-8", "")
            .header("tidelog-headers", "%ff=1")
            .is(400, "invalid_parameter"),
        post("too many headers of octets", "")
            .header("tidelog-headers", &vec!["a=1"; 65].join(","))
            .is(422, "invalid_record"),
        post("headers of octets twice", "")
            .header("tidelog-headers", "a=1")
            .and_header("tidelog-headers", "b=1")
            .is(400, "invalid_parameter"),
        post("octets too large", "").body(vec![b'x'; (1 << 20) + 1]).is(413, "record_too_large"),
    ]
}

fn bodies() -> Vec<Case> {
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let good = gzip(GOOD.as_bytes());
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    let post = |name| case(name, "POST", TOPIC, GOOD);
    let zipped = |name, body: Vec<u8>| case(name, "POST", TOPIC, GOOD).header("content-encoding", "gzip").body(body);
    // 64 MiB of zeros in 64 KiB.
    let bomb = gzip(&vec![b' '; 64 << 20]);
    vec![
        post("a body too large").body(vec![b' '; (16 << 20) + 1]).is(413, "body_too_large").detail("limit", 16 << 20),
        zipped("a gzip bomb", bomb).is(413, "body_too_large"),
        zipped("gzip cut short", good[..good.len() - 4].to_vec()).is(400, "invalid_body"),
        zipped("gzip with a flipped bit", flipped).is(400, "invalid_body"),
        zipped("gzip and more", [&good[..], b"garbage"].concat()).is(400, "invalid_body"),
        post("zstd that is none").header("content-encoding", "zstd").is(400, "invalid_body"),
        post("a zstd window of gigabytes")
            .header("content-encoding", "zstd")
            .body([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00].to_vec())
            .is(400, "invalid_body"),
        post("an encoding of nobody").header("content-encoding", "compress").is(415, "unsupported_encoding"),
        post("two encodings").header("content-encoding", "gzip, gzip").is(415, "unsupported_encoding"),
        post("two headers of encoding")
            .header("content-encoding", "identity")
            .and_header("content-encoding", "gzip")
            .is(415, "unsupported_encoding"),
        post("no content type").header("content-type", "").is(415, "unsupported_media_type"),
        post("a form").header("content-type", "application/x-www-form-urlencoded").is(415, "unsupported_media_type"),
        post("a garbled content type").header("content-type", "application/json/x").is(415, "unsupported_media_type"),
        post("two content types").and_header("content-type", "application/x-ndjson").is(400, "invalid_parameter"),
        post("records answered as images").header("accept", "image/png").is(406, "not_acceptable"),
    ]
}

fn headers() -> Vec<Case> {
    let to = |name, path: &str| case(name, "POST", path, GOOD);
    let triple = |name, path: &str, [id, epoch, sequence]: [&str; 3]| {
        to(name, path).header("producer-id", id).header("producer-epoch", epoch).header("producer-sequence", sequence)
    };
    let wrong = |case: Case| case.is(400, "invalid_parameter");
    vec![
        wrong(to("an empty idempotency key", TOPIC).header("idempotency-key", "")),
        wrong(to("a long idempotency key", TOPIC).header("idempotency-key", &"k".repeat(65))),
        wrong(to("an idempotency key with a space", TOPIC).header("idempotency-key", "a b")),
        wrong(to("an idempotency key beyond ASCII", TOPIC).header("idempotency-key", "ä")),
        wrong(to("two idempotency keys", TOPIC).header("idempotency-key", "a").and_header("idempotency-key", "b")),
        wrong(to("half a triple", PARTITION).header("producer-id", "1")),
        wrong(triple("a negative producer", PARTITION, ["-1", "0", "0"])),
        wrong(triple("a huge producer", PARTITION, ["9007199254740992", "0", "0"])),
        wrong(triple("an epoch too large", PARTITION, ["1", "32768", "0"])),
        wrong(triple("a sequence too large", PARTITION, ["1", "0", "2147483648"])),
        wrong(triple("a triple and a key", PARTITION, ["1", "0", "0"]).header("idempotency-key", "k")),
        triple("a triple without a partition", TOPIC, ["1", "0", "0"]).is(400, "partition_required"),
        to("a condition without a partition", TOPIC).header("expected-offset", "0").is(400, "partition_required"),
        wrong(to("a condition in words", PARTITION).header("expected-offset", "latest")),
        wrong(to("a negative condition", PARTITION).header("expected-offset", "-1")),
        to("a condition that does not hold", PARTITION)
            .header("expected-offset", "99")
            .is(412, "offset_mismatch")
            .detail("actual_offset", 3),
        to("an early sequence of nobody", PARTITION).header("expected-offset", "0").is(412, "offset_mismatch"),
    ]
}
