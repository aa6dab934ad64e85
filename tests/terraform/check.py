"""Checks of terraform/ that Terraform does not make: what a plan changes, and what files say of each other.

usage: check.py unchanged PLAN.json        the plan changes nothing, but for what the emulator does not store
       check.py only-fleets PLAN.json      the plan changes launch templates, autoscaling groups and settings alone
       check.py readme FOLDER              the README's tables are the variables and outputs, with types, defaults and descriptions
       check.py metrics FOLDER TABLE       the metrics that are named exist
       check.py runbooks FOLDER PAGE       every alarm of a metric of Tidelog names a section of the runbook
"""

import json
import pathlib
import re
import sys

# What moto 5 takes and does not give back, or gives back and was not given. Everything else has to be the same.
NOT_STORED = {
    "aws_autoscaling_group": {"default_instance_warmup", "availability_zone_distribution", "launch_template"},
    "aws_autoscaling_policy": {"enabled", "predictive_scaling_configuration"},
    "aws_instance": {"maintenance_options"},
    # It adds the template's own tags to its specifications; that makes a new version, which the group then takes.
    "aws_launch_template": {"tag_specifications", "default_version", "latest_version"},
    "aws_vpc_security_group_egress_rule": {"description"},
    "aws_vpc_security_group_ingress_rule": {"description"},
}


def changes(path):
    """Address, type, actions and names of the attributes that change, of all that a plan changes beyond NOT_STORED."""
    for change in json.loads(pathlib.Path(path).read_text())["resource_changes"]:
        actions = change["change"]["actions"]
        if actions in (["no-op"], ["read"]):
            continue
        before, after = change["change"]["before"] or {}, change["change"]["after"] or {}
        unknown = change["change"].get("after_unknown") or {}
        names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name) and not unknown.get(name)}
        # Lists of blocks have a list of unknowns even where all is known.
        names |= {name for name, value in unknown.items() if holds_true(value)}
        if actions == ["update"]:
            names -= NOT_STORED.get(change["type"], set())
        if names or actions != ["update"]:
            yield change["address"], change["type"], actions, sorted(names)


def holds_true(value):
    if isinstance(value, dict):
        value = list(value.values())
    return any(map(holds_true, value)) if isinstance(value, list) else value is True


def unchanged(path):
    found = list(changes(path))
    return [f"{address}: {actions} {names}" for address, _, actions, names in found]


def only_fleets(path):
    allowed = {"aws_launch_template", "aws_autoscaling_group", "aws_ssm_parameter"}
    found = list(changes(path))
    problems = [f"{address}: {actions} {names}" for address, kind, actions, names in found if kind not in allowed or actions != ["update"]]
    if not any(kind == "aws_launch_template" for _, kind, _, _ in found):
        problems.append("no launch template changes: the plan was to have one that does")
    return problems


def blocks(text, word):
    """The blocks of a file by their names: what is between `word "name" {` and the closing brace in the first column."""
    return dict(re.findall(rf'^{word} "(\w+)" \{{\n(.*?)^\}}', text, re.M | re.S))


def description(block):
    here = re.search(r"^  description = <<-EOT\n(.*?)^\s*EOT$", block, re.M | re.S)
    text = here[1] if here else re.search(r'^  description = "((?:[^"\\]|\\.)*)"', block, re.M)[1].replace('\\"', '"')
    return " ".join(text.split())


def default(block):
    """The default as the README has it; none if it is of several lines or there only to be filled in by its type."""
    found = re.search(r"^  default\s*= (.*)$", block, re.M)
    if not found:
        return "required"
    return None if found[1] == "{}" and "object({" in block else f"`{found[1]}`"


def readme(folder):
    """What the tables of the README and of the module's files do not have in common: names, types, defaults, descriptions."""
    folder = pathlib.Path(folder)
    text = (folder / "README.md").read_text()
    problems = []
    for title, file, word in (("Inputs", "variables.tf", "variable"), ("Outputs", "outputs.tf", "output")):
        there = blocks((folder / file).read_text(), word)
        section = text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
        rows = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in section.splitlines() if row.startswith("| `")]
        told = {row[0].strip("`"): row[1:] for row in rows}
        problems += [f"README.md, {title}: {name} is missing" for name in there if name not in told]
        problems += [f"README.md, {title}: there is no {word} {name}" for name in told if name not in there]
        for name, block in there.items():
            cells = told.get(name, [])
            wanted = [description(block)]
            if word == "variable":
                kind = re.search(r"^  type\s*= (.*)$", block, re.M)[1].replace("object({", "object").replace("map(object", "map(object)")
                wanted = [kind, default(block), *wanted]
            if cells and (len(cells) != len(wanted) or any(want not in (None, cell) for cell, want in zip(cells, wanted))):
                problems.append(f"README.md, {title}, {name}: {cells}, and {file} has {wanted}")
    return problems


def metrics(folder, table):
    there = set(re.findall(r'"(tidelog_\w+)"', pathlib.Path(table).read_text()))
    problems = []
    for file in sorted(pathlib.Path(folder).glob("*.tf")):
        for name in re.findall(r'"(tidelog_\w+)"', file.read_text()):
            if name not in there:
                problems.append(f"{file}: there is no metric {name}")
    assert there, "the metrics were not found"
    return problems


def runbooks(folder, page):
    headings = set(re.findall(r"^#+ (.*)$", pathlib.Path(page).read_text(), re.M))
    text = (pathlib.Path(folder) / "alarms.tf").read_text()
    problems = []
    for told in re.findall(r'(?:alarm_)?description\s*= "(.*)"$', text, re.M):
        section = re.search(r"\$\{local\.runbook\}, ([^)]*)\)\.$", told)
        # The host of a machine is AWS' business.
        if not section and "AWS starts it" not in told:
            problems.append(f"alarms.tf: {told!r} names no section of {page}")
        elif section and section[1] not in headings:
            problems.append(f"alarms.tf: {page} has no section {section[1]!r}")
    assert len(headings) > 10
    return problems


def main():
    command, *arguments = sys.argv[1:]
    problems = {"unchanged": unchanged, "only-fleets": only_fleets, "readme": readme, "metrics": metrics, "runbooks": runbooks}[command](*arguments)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


sys.exit(main())
