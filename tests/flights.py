"""Compares what Tidelog archived and what it sent to a consumer with the source file, by DuckDB alone.

usage: flights.py SOURCE.parquet WORK ROWS        ROWS 0: all of the source

WORK holds archive.json (the listing), consumed.ndjson and topic.json. Exits 1 and says what differs.
"""

import json
import os
import sys
import urllib.parse

import duckdb

PARTITIONS = 4
failures = []


def check(what, query):
    """The query counts violations."""
    count = db.sql(query).fetchall()[0][0]
    if count:
        failures.append(f"{what}: {count}")
    print(f"  {'ok  ' if not count else 'FAIL'} {what}" + (f": {count}" if count else ""))


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def open_s3():
    """DuckDB's own reader of S3, with the key and the endpoint of the environment."""
    import duckdb_ext

    db = duckdb.connect(config={"extension_directory": list(duckdb_ext.__path__)[0] + "/extensions"})
    db.sql("load httpfs")
    endpoint = urllib.parse.urlparse(os.environ["AWS_ENDPOINT_URL"])
    db.sql(
        f"""create secret (type s3, key_id {quoted(os.environ["AWS_ACCESS_KEY_ID"])},
            secret {quoted(os.environ["AWS_SECRET_ACCESS_KEY"])}, region {quoted(os.environ["AWS_REGION"])},
            endpoint {quoted(endpoint.netloc)}, url_style 'path', use_ssl {endpoint.scheme == "https"})"""
    )
    return db


source, work, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
listing = json.load(open(f"{work}/archive.json"))
over_s3 = any(file["url"].startswith("s3:") for file in listing["files"])
db = open_s3() if over_s3 else duckdb.connect()
db.sql(f"set temp_directory = {quoted(work + '/duckdb')}")
limit = f"where file_row_number < {rows}" if rows else ""
db.sql(
    f"""create table source as
        select file_row_number as row, date, delay, distance, origin, destination
        from read_parquet({quoted(source)}, file_row_number = true) {limit}"""
)
expected = db.sql("select count(*) from source").fetchall()[0][0]
print(f"source: {expected} rows")

assert not listing["has_more"], "the listing has more files than one page"
paths = []
for file in listing["files"]:
    url = urllib.parse.urlparse(file["url"])
    assert url.scheme == ("s3" if over_s3 else "file"), f"the listing names {file['url']}"
    paths.append(f"s3://{url.netloc}{url.path}" if over_s3 else urllib.parse.unquote(url.path))
print(f"archive: {len(paths)} files")
files = "[" + ", ".join(map(quoted, paths)) + "]"
db.sql(
    f"""create table archived as
        select "partition" as part, "offset" as off, decode(key) as key, value from read_parquet({files})"""
)
columns = "{'partition': 'INTEGER', 'offset': 'BIGINT', 'timestamp': 'BIGINT', 'key': 'VARCHAR', 'value': 'JSON'}"
db.sql(
    f"""create table consumed_raw as
        select row_number() over () as line, "partition" as part, "offset" as off, key, value::varchar as value
        from read_json({quoted(work + "/consumed.ndjson")}, format = 'newline_delimited', columns = {columns})"""
)
db.sql("create view consumed as select part, off, key, value from consumed_raw")

# The watermarks that the server states, the rows that the listing states.
topic = json.load(open(f"{work}/topic.json"))
stated = sum(partition["high_watermark"] for partition in topic["partitions"])
if stated != expected or len(topic["partitions"]) != PARTITIONS:
    failures.append(f"the topic's high watermarks add up to {stated}, not {expected}")
if sum(file["rows"] for file in listing["files"]) != expected:
    failures.append("the rows of the listing do not add up")

for name in ["archived", "consumed"]:
    print(name)
    db.sql(
        f"""create table {name}_rows as
            select part, off, key, value ->> 'origin' as origin, value ->> 'destination' as destination,
                   (value ->> 'delay')::bigint as delay, (value ->> 'distance')::bigint as distance,
                   (value ->> 'date')::timestamptz at time zone 'UTC' as date
            from {name}"""
    )
    check("row count", f"select abs(count(*) - {expected}) from {name}")
    check(
        "every offset of every partition once",
        f"""select count(*) from (
                select part from {name} group by part
                having min(off) <> 0 or max(off) <> count(*) - 1 or count(distinct off) <> count(*))""",
    )
    check("the key is the origin", f"select count(*) from {name}_rows where key is distinct from origin")
    check("a key has one partition", f"select count(*) from (select key from {name} group by key having count(distinct part) <> 1)")
    check(
        "count, sum of delay and sum of distance by origin",
        f"""select count(*) from (
                select origin, count(*) as n, sum(delay) as delay, sum(distance) as distance from source group by origin) s
            full join (
                select origin, count(*) as n, sum(delay) as delay, sum(distance) as distance from {name}_rows group by origin) t
            on s.origin = t.origin
            where s.n is distinct from t.n or s.delay is distinct from t.delay or s.distance is distinct from t.distance""",
    )
    check(
        "by key, every row in the source's order",
        f"""select count(*) from (
                select *, row_number() over (partition by origin order by row) as n from source) s
            full join (
                select *, row_number() over (partition by origin order by off) as n from {name}_rows) t
            on s.origin = t.origin and s.n = t.n
            where s.date is distinct from t.date or s.delay is distinct from t.delay
               or s.distance is distinct from t.distance or s.destination is distinct from t.destination""",
    )

print("both")
check(
    "the consumer got each partition in offset order",
    """select count(*) from (
           select off - lag(off) over (partition by part order by line) as step from consumed_raw) where step <> 1""",
)
check(
    "the same key and value bytes at each offset",
    """select count(*) from archived a full join consumed c on a.part = c.part and a.off = c.off
       where a.key is distinct from c.key or a.value is distinct from c.value""",
)

for failure in failures:
    print(f"flights: {failure}", file=sys.stderr)
sys.exit(1 if failures else 0)
