//! Paths, methods, queries, headers and the bodies of all routes but those that take records.

use super::{Case, case};

const OTHER_ID: &str = "00000000-0000-4000-8000-000000000000";

pub(super) fn cases() -> Vec<Case> {
    [heads(), paths(), topics(), reads(), producers(), operation(), cluster()].concat()
}

/// What every route refuses alike.
fn heads() -> Vec<Case> {
    let healthz = |name| case(name, "GET", "/healthz", "");
    vec![
        healthz("foreign host").header("host", "rebound.example").is(421, "misdirected_request"),
        healthz("no host").header("host", "").is(421, "misdirected_request"),
        healthz("foreign origin").header("origin", "https://evil.example").is(403, "forbidden_origin"),
        healthz("null origin").header("origin", "null").is(403, "forbidden_origin"),
        healthz("two hosts")
            .header("host", "localhost")
            .and_header("host", "evil.example")
            .is(400, "invalid_parameter"),
        healthz("two origins")
            .header("origin", "http://localhost")
            .and_header("origin", "https://evil.example")
            .is(400, "invalid_parameter"),
        healthz("a large header").header("cookie", &"x".repeat(40_000)).is(431, "headers_too_large"),
        many_headers(),
        case("a long path", "GET", &format!("/v1/topics?prefix={}", "x".repeat(40_000)), "")
            .is(431, "headers_too_large"),
        case("a writing method on health", "POST", "/healthz", "").is(405, "method_not_allowed"),
        case("a method of nobody", "BREW", "/v1/topics", "").is(405, "method_not_allowed"),
        case("trace", "TRACE", "/v1/topics", "").is(405, "method_not_allowed"),
        case("an accept of images", "GET", "/v1/status", "").header("accept", "image/png").is(406, "not_acceptable"),
        case("an accept with quality zero", "GET", "/v1/status", "")
            .header("accept", "application/json;q=0")
            .is(406, "not_acceptable"),
    ]
}

fn many_headers() -> Case {
    let mut case = case("many headers", "GET", "/healthz", "").is(431, "headers_too_large");
    for _ in 0..120 {
        case = case.and_header("x-one-more", "1");
    }
    case
}

fn paths() -> Vec<Case> {
    let get = |name, path: &str| case(name, "GET", path, "");
    vec![
        get("no such route", "/v1/nothing").is(404, "route_not_found"),
        get("the root", "/").is(404, "route_not_found"),
        get("another case", "/V1/topics").is(404, "route_not_found"),
        get("a doubled slash", "//v1/topics").is(404, "route_not_found"),
        get("a slash at the end", "/v1/topics/").is(404, "route_not_found"),
        get("traversal", "/v1/topics/../../etc/passwd").is(404, "route_not_found"),
        get("traversal below a topic", "/v1/topics/t/../json").is(404, "route_not_found"),
        get("a topic named dots", "/v1/topics/..").is(400, "invalid_topic_name"),
        get("encoded dots", "/v1/topics/%2e%2e").is(400, "invalid_topic_name"),
        get("encoded traversal", "/v1/topics/..%2f..%2fetc%2fpasswd").is(400, "invalid_topic_name"),
        get("encoded twice", "/v1/topics/%252e%252e").is(400, "invalid_topic_name"),
        get("an encoded null byte", "/v1/topics/t%00").is(400, "invalid_topic_name"),
        get("an encoded line break", "/v1/topics/t%0d%0ax:y").is(400, "invalid_topic_name"),
        get("overlong UTF-8", "/v1/topics/%c0%ae%c0%ae").is(400, "invalid_parameter"),
        get("not UTF-8", "/v1/topics/%ff").is(400, "invalid_parameter"),
        get("half an escape", "/v1/topics/t%2").is(400, "invalid_topic_name"),
        get("a letter that is not ASCII", "/v1/topics/%C3%A4").is(400, "invalid_topic_name"),
        get("a reserved name", "/v1/topics/__ours").is(400, "invalid_topic_name").detail("topic", "__ours"),
        get("a name of 250 characters", &format!("/v1/topics/{}", "x".repeat(250))).is(400, "invalid_topic_name"),
        get("a metrics path below", "/metrics/x").is(404, "route_not_found"),
        case("deleting metrics", "DELETE", "/metrics", "").is(405, "method_not_allowed"),
        get("a foreign host of metrics", "/metrics").header("host", "evil.example").is(421, "misdirected_request"),
        get("a foreign host of readiness", "/readyz").header("host", "evil.example").is(421, "misdirected_request"),
        get("an accept of the description", "/v1/openapi.json").header("accept", "text/html").is(406, "not_acceptable"),
    ]
}

fn topics() -> Vec<Case> {
    let put = |name, body: &str| case(name, "PUT", "/v1/topics/new", body);
    let patch = |name, body: &str| case(name, "PATCH", "/v1/topics/t", body);
    vec![
        put("settings cut short", "{\"partitions\":").is(400, "invalid_json"),
        put("settings that are no object", "[]").is(422, "invalid_request"),
        put("settings of nobody", "{\"colour\":1}").is(422, "invalid_request").says("colour"),
        put("a setting twice", "{\"partitions\":1,\"partitions\":2}").is(422, "invalid_request"),
        put("partitions as text", "{\"partitions\":\"4\"}").is(422, "invalid_request"),
        put("no partitions", "{\"partitions\":0}").is(422, "invalid_settings"),
        put("negative partitions", "{\"partitions\":-1}").is(422, "invalid_request"),
        put("too many partitions of a topic", "{\"partitions\":10001}").is(422, "invalid_settings"),
        put("half a partition", "{\"partitions\":1.5}").is(422, "invalid_request"),
        put("a huge number", "{\"retention_ms\":99999999999999999999}").is(422, "invalid_request"),
        put("a number that JSON cannot keep", "{\"partitions\":1e999}").is(400, "invalid_json"),
        put("a format of nobody", "{\"value_format\":\"xml\"}").is(422, "invalid_request"),
        put("no retention", "{\"retention_ms\":0}").is(422, "invalid_settings"),
        put("no archive retention", "{\"archive_retention_ms\":0}").is(422, "invalid_settings"),
        put("an archive shorter than its log", "{\"retention_ms\":10,\"archive_retention_ms\":9}")
            .is(422, "invalid_settings"),
        put("a negative archive retention", "{\"archive_retention_ms\":-1}").is(422, "invalid_request"),
        put("rekey at creation", "{\"rekey\":true}").is(422, "invalid_request"),
        put("settings too deep", &"[".repeat(10_000)).is(422, "invalid_request"),
        put("settings as XML", "<x/>").header("content-type", "text/xml").is(415, "unsupported_media_type"),
        put("settings compressed as nobody does", "{}")
            .header("content-encoding", "br")
            .is(415, "unsupported_encoding"),
        put("settings that are no gzip", "{}").header("content-encoding", "gzip").is(400, "invalid_body"),
        case("an unknown parameter of creation", "PUT", "/v1/topics/new?dry_run=true", "{}")
            .is(400, "invalid_parameter")
            .detail("parameter", "dry_run"),
        case("creation under a bad name", "PUT", "/v1/topics/a%20b", "{}").is(400, "invalid_topic_name"),
        case("a topic that exists otherwise", "PUT", "/v1/topics/t", "{\"partitions\":7}").is(409, "topic_exists"),
        patch("alter with null bytes", "{\"partitions\":\0}").is(400, "invalid_json"),
        patch("alter without rekey", "{\"partitions\":5}").is(422, "rekey_required"),
        patch("alter to fewer", "{\"partitions\":1}").is(422, "invalid_settings"),
        patch("alter the format", "{\"value_format\":\"text\"}").is(422, "invalid_settings"),
        case("alter another topic", "PATCH", &format!("/v1/topics/t?topic_id={OTHER_ID}"), "{}")
            .is(409, "topic_replaced"),
        case("alter no topic", "PATCH", "/v1/topics/none", "{}").is(404, "topic_not_found"),
        case("delete no topic", "DELETE", "/v1/topics/none", "").is(404, "topic_not_found"),
        case("delete another topic", "DELETE", &format!("/v1/topics/t?topic_id={OTHER_ID}"), "")
            .is(409, "topic_replaced"),
        case("delete with a broken id", "DELETE", "/v1/topics/t?topic_id=1", "")
            .is(400, "invalid_parameter")
            .detail("parameter", "topic_id"),
        case("undelete nothing", "POST", "/v1/topics/none:undelete", "").is(404, "topic_not_found"),
        case("undelete with a parameter", "POST", "/v1/topics/none:undelete?x=1", "").is(400, "invalid_parameter"),
        case("a verb of nobody", "POST", "/v1/topics/t:explode", "").is(404, "route_not_found"),
        case("an empty verb", "POST", "/v1/topics/t:", "").is(404, "route_not_found"),
        case("no verb", "POST", "/v1/topics/t", "").is(405, "method_not_allowed"),
        case("flush no topic", "POST", "/v1/topics/none:flush", "").is(404, "topic_not_found"),
        case("flush for a negative time", "POST", "/v1/topics/t:flush?wait_ms=-1", "").is(400, "invalid_parameter"),
        case("flush maybe to the archive", "POST", "/v1/topics/t:flush?archive=maybe", "")
            .is(400, "invalid_parameter")
            .detail("parameter", "archive"),
    ]
}

fn reads() -> Vec<Case> {
    let list = |name, query: &str| case(name, "GET", &format!("/v1/topics?{query}"), "").is(400, "invalid_parameter");
    let one = |name, query: &str| case(name, "GET", &format!("/v1/topics/t/partitions/0/records?{query}"), "");
    let all = |name, query: &str| case(name, "GET", &format!("/v1/topics/t/records?{query}"), "");
    let files = |name, query: &str| case(name, "GET", &format!("/v1/topics/t/archive?{query}"), "");
    vec![
        list("a limit of zero", "limit=0"),
        list("a huge limit", "limit=10001"),
        list("a limit twice", "limit=1&limit=2").detail("parameter", "limit"),
        list("a limit twice, once encoded", "limit=1&%6cimit=2").detail("parameter", "limit"),
        list("a parameter that is not UTF-8", "prefix=%ff"),
        list("more parameters than there are", &(0..40).map(|n| format!("p{n}=1&")).collect::<String>()),
        case("describe no topic", "GET", "/v1/topics/none", "").is(404, "topic_not_found").says("tidelog topic create"),
        one("a negative offset", "offset=-1").is(400, "invalid_parameter").detail("parameter", "offset"),
        one("a huge offset", "offset=9007199254740992").is(400, "invalid_parameter"),
        one("an offset beyond 64 bits", "offset=99999999999999999999").is(400, "invalid_parameter"),
        one("an offset in hex", "offset=0x1").is(400, "invalid_parameter"),
        one("an offset with a sign", "offset=%2B1").is(400, "invalid_parameter"),
        one("an offset in other digits", "offset=%D9%A1").is(400, "invalid_parameter"),
        one("an empty offset", "offset=").is(400, "invalid_parameter"),
        one("the largest offset", "offset=9007199254740991").is(416, "offset_out_of_range").detail("high_watermark", 3),
        one("an offset just above", "offset=4").is(416, "offset_out_of_range").detail("log_start_offset", 0),
        one("two starts", "offset=0&tail=1").is(400, "invalid_parameter"),
        one("a tail in words", "tail=all").is(400, "invalid_parameter"),
        one("a negative time", "timestamp=-5").is(400, "invalid_parameter"),
        one("no records wanted", "max_records=0").is(400, "invalid_parameter"),
        one("too many records wanted", "max_records=10001").is(400, "invalid_parameter"),
        one("too many bytes wanted", "max_bytes=16777217").is(400, "invalid_parameter"),
        one("a wait in seconds", "wait_ms=1s").is(400, "invalid_parameter"),
        one("values of nobody", "values=xml").is(400, "invalid_parameter"),
        one("a range without an id", "offset=0&end=1").is(400, "invalid_parameter"),
        one("a range that runs backwards", &format!("offset=2&end=1&topic_id={OTHER_ID}")).is(400, "invalid_parameter"),
        one("records of another topic", &format!("topic_id={OTHER_ID}")).is(409, "topic_replaced"),
        one("records as images", "").header("accept", "image/*").is(406, "not_acceptable"),
        one("following from a negative offset", "offset=-1")
            .header("accept", "text/event-stream")
            .is(400, "invalid_parameter"),
        one("following from a garbled place", "")
            .header("accept", "text/event-stream")
            .header("last-event-id", "!")
            .is(400, "invalid_cursor"),
        case("a partition that is not there", "GET", "/v1/topics/t/partitions/2/records", "")
            .is(404, "partition_not_found"),
        case("a negative partition", "GET", "/v1/topics/t/partitions/-1/records", "").is(400, "invalid_parameter"),
        case("a huge partition", "GET", "/v1/topics/t/partitions/4294967296/records", "").is(400, "invalid_parameter"),
        case("records of no topic", "GET", "/v1/topics/none/partitions/0/records", "").is(404, "topic_not_found"),
        all("a garbled cursor", "cursor=AAAA").is(400, "invalid_cursor"),
        all("a cursor that is no base64", "cursor=%00").is(400, "invalid_cursor"),
        all("an empty cursor", "cursor=").is(400, "invalid_cursor"),
        all("a cursor and a start", "cursor=AAAA&from=latest").is(400, "invalid_parameter"),
        all("a start of nobody", "from=yesterday").is(400, "invalid_parameter"),
        all("partitions that run backwards", "partitions=5-1").is(400, "invalid_parameter"),
        all("partitions that are not there", "partitions=9").is(404, "partition_not_found"),
        all("all as batches", "").header("accept", "application/vnd.tidelog.batch").is(406, "not_acceptable"),
        case("all of no topic", "GET", "/v1/topics/none/records", "").is(404, "topic_not_found"),
        files("files after nothing known", "limit=-1").is(400, "invalid_parameter"),
        files("files since never", "min_timestamp=never").is(400, "invalid_parameter"),
        case("files of no topic", "GET", "/v1/topics/none/archive", "").is(404, "topic_not_found"),
    ]
}

fn producers() -> Vec<Case> {
    let register = |name, body: &str| case(name, "POST", "/v1/producers", body);
    vec![
        register("a producer that is a list", "[\"p\"]").is(422, "invalid_request"),
        register("a producer named by a number", "{\"name\":1}").is(422, "invalid_request"),
        register("a producer without a name to it", "{\"name\":\"\"}").is(422, "invalid_request"),
        register("a producer with a line break", "{\"name\":\"a\\nb\"}").is(422, "invalid_request"),
        register("a producer with half a letter", "{\"name\":\"\\ud800\"}").is(400, "invalid_json"),
        register("a producer with a long name", &format!("{{\"name\":\"{}\"}}", "x".repeat(250)))
            .is(422, "invalid_request"),
        register("a producer with more to it", "{\"name\":\"p\",\"epoch\":1}").is(422, "invalid_request"),
        case("a nameless search", "GET", "/v1/producers", "").is(400, "invalid_parameter").detail("parameter", "name"),
        case("a producer nobody registered", "GET", "/v1/producers?name=nobody", "").is(404, "producer_not_found"),
        case("a producer's id in words", "GET", "/v1/producers/me?topic=t", "").is(400, "invalid_parameter"),
        case("a producer of no topic named", "GET", "/v1/producers/1", "").is(400, "invalid_parameter"),
        case("a producer of a bad topic", "GET", "/v1/producers/1?topic=..", "").is(400, "invalid_topic_name"),
        case("a producer that wrote nothing", "GET", "/v1/producers/1?topic=t", "").is(404, "producer_not_found"),
    ]
}

fn operation() -> Vec<Case> {
    let jobs = |name, verb: &str, body: &str| case(name, "POST", &format!("/v1/archive-jobs:{verb}"), body);
    vec![
        jobs("a claim of nobody", "claim", "{}").is(422, "invalid_request").says("worker"),
        jobs("a claim with too much", "claim", "{\"worker\":\"w\",\"x\":1}").is(422, "invalid_request"),
        jobs("an extension of nothing", "extend", "null").is(422, "invalid_request"),
        jobs("an extension of a stale job", "extend", "{\"shard\":0,\"job\":99}").is(409, "stale_job"),
        jobs("a completion without files", "complete", "{\"job\":{\"shard\":0,\"job\":99}}").is(422, "invalid_request"),
        jobs(
            "a completion of a stale job",
            "complete",
            "{\"job\":{\"shard\":0,\"job\":99},\"files\":[],\"ranges\":[]}",
        )
        .is(409, "stale_job"),
        jobs("an abandonment without a reason", "abandon", "{\"job\":{\"shard\":0,\"job\":99}}")
            .is(422, "invalid_request"),
        jobs("a job in text", "abandon", "x").is(400, "invalid_json"),
        case("status of something", "GET", "/v1/status?shard=0", "").is(400, "invalid_parameter"),
        case("cost of something", "GET", "/v1/cost?topic=t", "").is(400, "invalid_parameter"),
        case("settings of something", "GET", "/v1/admin/settings?x=1", "").is(400, "invalid_parameter"),
        case("pause nothing", "POST", "/v1/admin/jobs/everything:pause", "").is(404, "route_not_found"),
        case("pause with a parameter", "POST", "/v1/admin/jobs/flush:pause?x=1", "").is(400, "invalid_parameter"),
        case("resume with a parameter", "POST", "/v1/admin/jobs/flush:resume?x=1", "").is(400, "invalid_parameter"),
        case("a job without a verb", "POST", "/v1/admin/jobs/flush", "").is(404, "route_not_found"),
        case("a filter of nobody", "PUT", "/v1/admin/log-level", "{\"filter\":\"=loud=\"}").is(422, "invalid_request"),
        case("no filter", "PUT", "/v1/admin/log-level", "{}").is(422, "invalid_request"),
        case("stop with a parameter", "POST", "/v1/admin/stop?now=true", "").is(400, "invalid_parameter"),
    ]
}

fn cluster() -> Vec<Case> {
    let add = |name, body: &str| case(name, "POST", "/v1/admin/nodes:add", body);
    let remove = |name, body: &str| case(name, "POST", "/v1/admin/nodes:remove", body);
    let replace = |name, body: &str| case(name, "POST", "/v1/admin/nodes:replace", body);
    let transfer = |name, body: &str| case(name, "POST", "/v1/admin/leader:transfer", body);
    vec![
        case("the cluster of something", "GET", "/v1/admin/cluster?node=1", "").is(400, "invalid_parameter"),
        case("the cluster as images", "GET", "/v1/admin/cluster", "")
            .header("accept", "image/png")
            .is(406, "not_acceptable"),
        case("writing the cluster", "PUT", "/v1/admin/cluster", "{}").is(405, "method_not_allowed"),
        add("add a node without an address", "{\"node\":2}").is(422, "invalid_request").says("address"),
        add("add a node by a name", "{\"node\":\"two\",\"address\":\"a:1\"}").is(422, "invalid_request"),
        add("add node zero", "{\"node\":0,\"address\":\"a:1\"}").is(422, "invalid_node"),
        add("add a node beyond 2^53", "{\"node\":9007199254740992,\"address\":\"a:1\"}").is(422, "invalid_node"),
        add("add a node at no port", "{\"node\":2,\"address\":\"a\"}").is(422, "invalid_node").says("host:port"),
        add("add a node at a URL", "{\"node\":2,\"address\":\"http://a:1\"}").is(422, "invalid_node"),
        add("add a node at a long address", &format!("{{\"node\":2,\"address\":\"{}:1\"}}", "x".repeat(300)))
            .is(422, "invalid_node"),
        add("add a node with more to it", "{\"node\":2,\"address\":\"a:1\",\"voter\":true}").is(422, "invalid_request"),
        add("add a node to one without peers", "{\"node\":2,\"address\":\"127.0.0.1:9\"}")
            .is(409, "invalid_membership"),
        remove("remove no node", "{}").is(422, "invalid_request").says("node"),
        remove("remove the last voter", "{\"node\":1}").is(409, "invalid_membership"),
        remove("remove node zero", "{\"node\":0}").is(422, "invalid_node"),
        remove("remove in text", "x").is(400, "invalid_json"),
        replace("replace a node by nobody", "{\"node\":1,\"address\":\"a:1\"}").is(422, "invalid_request").says("by"),
        replace("replace a node by itself", "{\"node\":1,\"by\":1,\"address\":\"a:1\"}").is(422, "invalid_node"),
        replace("replace a node nowhere", "{\"node\":1,\"by\":2,\"address\":\":1\"}").is(422, "invalid_node"),
        transfer("transfer to node zero", "{\"to\":0}").is(422, "invalid_node"),
        transfer("transfer to a list", "[1]").is(422, "invalid_request"),
        transfer("transfer with more to it", "{\"to\":1,\"at\":2}").is(422, "invalid_request"),
        case("transfer with a parameter", "POST", "/v1/admin/leader:transfer?to=1", "").is(400, "invalid_parameter"),
        case("drain with a parameter", "POST", "/v1/admin/drain?now=true", "").is(400, "invalid_parameter"),
    ]
}
