"""Holds every rule and every query of a dashboard against the metrics of running processes.

usage: monitoring.py source             the same against src/metrics alone: names and labels, without their values
       monitoring.py pending ALERT…      waits until Prometheus has these alerts as pending or firing
       monitoring.py URL…        URLs of /metrics of a node, of a gateway and of a compactor; PROMETHEUS may name a Prometheus
                                 that scrapes them, which then has to answer every query

A metric, a label or a value of a label that no process has fails, and so does an alert without a section in
docs/operations.md. Prints what it checked, and exits 1 with what is wrong.
"""

import json
import os
import re
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
# What Prometheus and minio/prometheus.yml add to every series.
TARGET_LABELS = {"instance", "job", "role"}
SERIES = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
WORDS = {"by", "on", "and", "or", "unless", "without", "ignoring", "group_left", "group_right", "bool", "offset"}
# Queries of which nothing comes while all is well, or without TLS.
EMPTY_WHEN_WELL = ["tidelog_certificate_expiry_timestamp_seconds"]


class Metrics:
    """The series that there are: by name their labels, and the values of each."""

    def __init__(self, texts):
        self.labels = {"up": {}}
        for line in "\n".join(texts).splitlines():
            found = SERIES.match(line)
            if line.startswith("#") or not found:
                continue
            labels = self.labels.setdefault(found[1], {})
            for name, value in LABEL.findall(found[2] or ""):
                labels.setdefault(name, set()).add(value)

    def problems(self, expression):
        """What a query names that is not there."""
        # Ranges, then what grouping names, then selectors: what is left of words are functions.
        text = expression.replace("$__rate_interval", "5m")
        text = re.sub(r"\[[\w:]+\]", "", text)
        grouped = set()
        for group in re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", text):
            grouped |= {label.strip() for label in group.split(",") if label.strip()}
        text = re.sub(r"\b(?:by|on|without|ignoring)\s*\([^)]*\)", "", text)
        known = set(TARGET_LABELS)
        metrics = 0
        for name, matchers in re.findall(r"([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(?!\w|\s*\()", text):
            if name in WORDS or not (matchers or "_" in name or name == "up"):
                continue
            metrics += 1
            if name not in self.labels:
                yield f"no process has the metric {name}"
                continue
            known |= set(self.labels[name])
            yield from self.wrong_matchers(name, matchers)
        for label in sorted(grouped - known):
            yield f"the label {label} is of none of its metrics"
        if not metrics:
            yield "it names no metric"

    def wrong_matchers(self, name, matchers):
        for label, operator, value in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', matchers):
            if label in TARGET_LABELS and label not in self.labels[name]:
                continue
            values = self.labels[name].get(label)
            if values is None:
                yield f"{name} has no label {label}"
            elif operator in ("=", "!=") and value not in values:
                yield f"{name} has no {label} {value!r}, only {', '.join(sorted(values))}"
            elif operator in ("=~", "!~"):
                for part in value.split("|"):
                    if not any(re.fullmatch(part, known) for known in values):
                        yield f"{name} has no {label} like {part!r}"


class Described(Metrics):
    """The series that src/metrics/table.rs and topics.rs describe: names and labels. Which values labels get is not known."""

    LINE = re.compile(r'^    (Counter|Gauge|Histogram) \w+ "(tidelog_\w+)"\s*(?:\[(.*?)\])?\s*"', re.MULTILINE | re.DOTALL)

    def __init__(self):
        super().__init__([])
        for kind, name, labels in self.LINE.findall((ROOT / "src/metrics/table.rs").read_text()):
            known = {label: set() for label in re.findall(r"(\w+):", labels)}
            if kind == "Histogram":
                self.labels |= {f"{name}_bucket": known | {"le": set()}, f"{name}_sum": known, f"{name}_count": known}
            else:
                self.labels[name] = known
        for name in re.findall(r'"(tidelog_topic_\w+)"', (ROOT / "src/metrics/topics.rs").read_text()):
            self.labels[name] = {"namespace": set(), "topic": set()}

    def wrong_matchers(self, name, matchers):
        for label in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', matchers):
            if label not in self.labels[name] and label not in TARGET_LABELS:
                yield f"{name} has no label {label}"


def rules():
    for path in sorted((ROOT / "monitoring/rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield f"{path.name}: {rule['alert']}", rule


def panels():
    for path in sorted((ROOT / "monitoring/dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            yield f"{path.name}: {panel['title']}", panel


def queries():
    for place, rule in rules():
        yield place, rule["expr"], rule["annotations"]["summary"]
    for place, panel in panels():
        for target in panel.get("targets", []):
            yield place, target["expr"], target["legendFormat"]


def sections():
    """The headings of the runbook as links name them."""
    page = (ROOT / "docs/operations.md").read_text()
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def wrong_rules():
    known = sections()
    for place, rule in rules():
        page, _, section = rule["annotations"]["runbook"].partition("#")
        if page != "docs/operations.md" or section not in known:
            yield f"{place}: docs/operations.md has no section for {rule['annotations']['runbook']}"
        if rule["labels"]["severity"] not in ("critical", "warning"):
            yield f"{place}: the severity is none"


def wrong_dashboards():
    seen = {}
    for path in sorted((ROOT / "monitoring/dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text())
        if seen.setdefault(dashboard["uid"], path.name) != path.name:
            yield f"{path.name}: its uid is that of {seen[dashboard['uid']]}"
        taken = {}
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    if x >= 24 or taken.setdefault((x, y), panel["title"]) != panel["title"]:
                        yield f"{path.name}: {panel['title']} is where {taken.get((x, y), 'nothing')} is"
                        break


def unseen(metrics):
    """Metrics that no dashboard and no rule looks at."""
    text = " ".join(query for _, query, _ in queries())
    for name in sorted(metrics.labels):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        if name.startswith("tidelog_") and not re.search(rf"\b{base}(_bucket|_sum|_count)?\b", text):
            yield f"{name} is in no dashboard and in no rule"


def wrong_alarms(metrics):
    """What terraform/ names of the metrics, for CloudWatch."""
    for path in sorted((ROOT / "terraform").glob("*.tf")):
        text = path.read_text()
        for name in sorted(set(re.findall(r'"(tidelog_\w+)"', text)) - set(metrics.labels)):
            yield f"{path.name}: no process has the metric {name}"
        for name, dimensions in re.findall(r'metric\s*=\s*"(tidelog_\w+)",\s*dimensions\s*=\s*\{([^}]*)\}', text):
            for label, value in re.findall(r'(\w+)\s*=\s*"([^"]*)"', dimensions):
                if label != "kind" and value not in metrics.labels.get(name, {}).get(label, ()):
                    yield f"{path.name}: {name} has no {label} {value!r}"


def asked(prometheus, metrics):
    """What a Prometheus that scrapes the processes says of every query."""
    answers = 0
    for place, query, _ in queries():
        query = query.replace("$instance", ".*").replace("$__rate_interval", "30s")
        url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        try:
            answer = json.load(urllib.request.urlopen(url, timeout=30))
        except urllib.error.HTTPError as error:
            yield f"{place}: Prometheus refuses {query}: {error.read().decode()}"
            continue
        answers += 1
        is_rule = place.split(": ")[0].endswith(".yml")
        if not answer["data"]["result"] and not is_rule and not any(name in query for name in EMPTY_WHEN_WELL):
            yield f"{place}: Prometheus has nothing for {query}"
    print(f"Prometheus answered {answers} queries")
    groups = json.load(urllib.request.urlopen(f"{prometheus}/api/v1/rules", timeout=30))["data"]["groups"]
    loaded = [rule for group in groups for rule in group["rules"]]
    if len(loaded) != len(list(rules())):
        yield f"Prometheus loaded {len(loaded)} rules"
    for rule in loaded:
        if rule["health"] != "ok":
            yield f"{rule['name']} is {rule['health']}: {rule.get('lastError')}"
        if rule["state"] == "firing":
            yield f"{rule['name']} fires although all is well: {rule['alerts']}"


def wait_for_alerts(prometheus, names):
    deadline = time.monotonic() + 180
    while True:
        groups = json.load(urllib.request.urlopen(f"{prometheus}/api/v1/rules", timeout=30))["data"]["groups"]
        states = {rule["name"]: rule["state"] for group in groups for rule in group["rules"]}
        if missing := [name for name in names if states.get(name) not in ("pending", "firing")]:
            if time.monotonic() > deadline:
                sys.exit(f"monitoring: {', '.join(missing)} do not notice what is wrong")
            time.sleep(0.5)
        else:
            print(f"Prometheus notices: {', '.join(names)}")
            return


def wait_for_scrapes(prometheus):
    """Until every target was scraped, every rule evaluated, and rates over half a minute have something to go by."""
    deadline = time.monotonic() + 120
    while True:
        targets = json.load(urllib.request.urlopen(f"{prometheus}/api/v1/targets", timeout=30))["data"]["activeTargets"]
        query = urllib.parse.urlencode({"query": "min(count_over_time(up[2m]))"})
        counts = json.load(urllib.request.urlopen(f"{prometheus}/api/v1/query?{query}", timeout=30))["data"]["result"]
        groups = json.load(urllib.request.urlopen(f"{prometheus}/api/v1/rules", timeout=30))["data"]["groups"]
        evaluated = all(rule["health"] == "ok" for group in groups for rule in group["rules"])
        if targets and all(target["health"] == "up" for target in targets) and evaluated:
            if counts and float(counts[0]["value"][1]) >= 3:
                print(f"Prometheus scrapes {len(targets)} targets")
                return
        if time.monotonic() > deadline:
            sys.exit(f"monitoring: not all targets are scraped after two minutes: {targets}")
        time.sleep(0.5)


def wrong_legend(metrics, query, text):
    """Labels that a legend or a summary shows and its query does not have."""
    shown = set(re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", text))
    for label in sorted(shown - TARGET_LABELS):
        if not re.search(rf"\b{label}\b", query) and not any(label in labels for name, labels in metrics.labels.items() if name in query):
            yield f"shows the label {label}, which its query does not have"


def main():
    if sys.argv[1] == "pending":
        wait_for_alerts(os.environ["PROMETHEUS"], sys.argv[2:])
        return
    described = sys.argv[1] == "source"
    if described:
        metrics = Described()
    else:
        metrics = Metrics(urllib.request.urlopen(url, timeout=30).read().decode() for url in sys.argv[1:])
    wrong = [
        f"{name} has the label {label}, which Prometheus would rename"
        for name, labels in metrics.labels.items()
        for label in sorted({"job", "instance"} & set(labels))
    ]
    wrong += list(wrong_rules()) + list(wrong_dashboards()) + list(unseen(metrics))
    wrong += [] if described else list(wrong_alarms(metrics))
    checked = 0
    for place, query, text in queries():
        checked += 1
        wrong += [f"{place}: {problem}" for problem in metrics.problems(query)]
        wrong += [f"{place}: {problem}" for problem in wrong_legend(metrics, query, text)]
    # The checks themselves: what is not there has to be noticed.
    for query in [
        "tidelog_no_such_metric > 0",
        'tidelog_bucket_calls_total{nobody="x"}',
        *([] if described else ['tidelog_bucket_calls_total{outcome="nobody"}']),
        'sum by (nobody) (rate(tidelog_flush_seconds_bucket{outcome=~"ok"}[5m]))',
        "sum(1)",
    ]:
        if not list(metrics.problems(query)):
            wrong.append(f"the check finds nothing wrong with {query}")
    print(f"{len(metrics.labels)} metrics, {len(list(rules()))} rules, {len(list(panels()))} panels, {checked} queries")
    if (prometheus := os.environ.get("PROMETHEUS")) and not described:
        wait_for_scrapes(prometheus)
        wrong += asked(prometheus, metrics)
    for problem in wrong:
        print(f"monitoring: {problem}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


main()
