"""What tests/terraform.sh puts into and looks for in the emulator of AWS, by boto3 and not by Terraform.

usage: emulated.py seed VARIABLES.json     makes what an account has before: a certificate, secrets; writes the example's variables
       emulated.py look MODEL.rs           what was applied is there, as many as the model of costs counts
       emulated.py gone                    after destroy: nothing is left but the volumes
"""

import base64
import gzip
import json
import pathlib
import re
import sys

import boto3

NAME = "orders"
ZONES = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/tidelog:1.2.3"


def secret(name, value):
    return boto3.client("secretsmanager").create_secret(Name=name, SecretString=value)["ARN"]


def seed(path):
    images = [image["ImageId"] for image in boto3.client("ec2").describe_images(Owners=["amazon"])["Images"]]
    pem = json.dumps({"cert": "CERT\n", "key": "KEY\n", "ca": "CA\n"})
    nodes = [secret(f"node-{number}", pem) for number in (1, 2, 3)]
    gateway, tokens, metrics = secret("gateway", pem), secret("tokens", "grafana read 00\n"), secret("metrics", "tidelog_x")
    variables = {
        "image": IMAGE,
        "ami_id": images[0],
        "certificate_arn": boto3.client("acm").request_certificate(DomainName="tidelog.example")["CertificateArn"],
        "node_secret_arns": nodes,
        "gateway_secret_arn": gateway,
        "tokens_secret_arn": tokens,
        "metrics_token_secret_arn": metrics,
        "deletion_protection": False,
        # Not made by the emulator.
        "detailed_monitoring": False,
    }
    pathlib.Path(path).write_text(json.dumps(variables))

    def machine(name, tls):
        return {
            "NAME": NAME,
            "MACHINE": name,
            "REGION": "eu-central-1",
            "TLS_SECRET": tls,
            "TOKENS_SECRET": tokens,
            "METRICS_TOKEN_SECRET": metrics,
        }

    machines = {"gateway": machine("gateway", gateway), "compactor": machine("compactor", gateway)}
    machines |= {f"voter-{zone}": machine(f"voter-{zone}", tls) for zone, tls in zip(ZONES, nodes)}
    pathlib.Path("emulated.json").write_text(json.dumps({"other_ami": images[1], "other_image": f"{IMAGE.rsplit(':', 1)[0]}:9.9.9", "machines": machines}))


def voters():
    filters = [{"Name": "tag:Name", "Values": [f"{NAME}-voter-{zone}" for zone in ZONES]}]
    reservations = boto3.client("ec2").describe_instances(Filters=filters)["Reservations"]
    machines = [machine for reservation in reservations for machine in reservation["Instances"]]
    return [machine for machine in machines if machine["State"]["Name"] != "terminated"]


def zones(machines):
    """Machines by the zone of their subnet; the emulator has its own idea of where a machine with a given interface is."""
    subnets = {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in boto3.client("ec2").describe_subnets()["Subnets"]}
    return {subnets[machine["SubnetId"]]: machine for machine in machines}


def volumes():
    filters = [{"Name": "tag:Name", "Values": [f"{NAME}-wal-{zone}" for zone in ZONES]}]
    return boto3.client("ec2").describe_volumes(Filters=filters)["Volumes"]


def look(model):
    machines = zones(voters())
    assert sorted(machines) == ZONES, sorted(machines)
    for zone, machine in machines.items():
        assert machine["PrivateIpAddress"] == f"10.42.{16 * ZONES.index(zone)}.10", machine["PrivateIpAddress"]
    attached = {volume["AvailabilityZone"]: volume["Attachments"][0]["InstanceId"] for volume in volumes()}
    assert attached == {zone: machine["InstanceId"] for zone, machine in machines.items()}, attached
    save_user_data(machines)
    s3 = boto3.client("s3")
    (bucket,) = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    assert {statement["Effect"] for statement in policy["Statement"]} == {"Deny"}, policy
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    groups = boto3.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert {group["AutoScalingGroupName"]: group["MinSize"] for group in groups} == {f"{NAME}-gateway": 3, f"{NAME}-compactor": 1}, groups
    (balancer,) = boto3.client("elbv2").describe_load_balancers()["LoadBalancers"]
    assert balancer["Scheme"] == "internal" and balancer["Type"] == "network", balancer
    counted = dict(re.findall(r"^const (ENDPOINTS|ALARMS): f64 = (\d+)\.0;", pathlib.Path(model).read_text(), re.M))
    endpoints = [endpoint for endpoint in boto3.client("ec2").describe_vpc_endpoints()["VpcEndpoints"] if endpoint["VpcEndpointType"] == "Interface"]
    alarms = [alarm["AlarmName"] for page in boto3.client("cloudwatch").get_paginator("describe_alarms").paginate() for alarm in page["MetricAlarms"]]
    # The group that follows processor time has alarms that AWS makes itself.
    alarms = [name for name in alarms if name.startswith(f"{NAME}-")]
    assert counted == {"ENDPOINTS": str(len(endpoints)), "ALARMS": str(len(alarms))}, (counted, len(endpoints), sorted(alarms))


def save_user_data(machines):
    """What the machines run at their first boot, as files that the shell can look at."""
    ec2 = boto3.client("ec2")
    texts = {}
    for zone, machine in machines.items():
        attribute = ec2.describe_instance_attribute(InstanceId=machine["InstanceId"], Attribute="userData")
        texts[zone] = attribute["UserData"]["Value"]
    for template in ec2.describe_launch_template_versions(Versions=["$Latest"])["LaunchTemplateVersions"]:
        texts[template["LaunchTemplateName"]] = template["LaunchTemplateData"]["UserData"]
    assert len(texts) == 5, sorted(texts)
    for name, text in texts.items():
        script = gzip.decompress(base64.b64decode(text)).decode()
        assert len(text) < 16_384, f"{name}: too long for user data"
        pathlib.Path(f"user-data-{name}.sh").write_text(script)
    ids = {volume["AvailabilityZone"]: volume["VolumeId"] for volume in volumes()}
    for zone, volume in ids.items():
        assert volume.replace("-", "") in pathlib.Path(f"user-data-{zone}.sh").read_text(), zone


def gone():
    assert not voters(), voters()
    assert [volume["State"] for volume in volumes()] == ["available"] * 3, volumes()
    assert not boto3.client("s3").list_buckets()["Buckets"]
    assert not boto3.client("elbv2").describe_load_balancers()["LoadBalancers"]
    assert not boto3.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert not boto3.client("iam").list_roles(PathPrefix="/")["Roles"]


command, *arguments = sys.argv[1:]
{"seed": seed, "look": look, "gone": gone}[command](*arguments)
