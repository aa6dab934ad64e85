# What a plan of the whole module says. Nothing is made, and no account is needed: AWS is mocked.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
}

override_resource {
  target          = aws_security_group.voters
  override_during = plan
  values          = { id = "sg-voters" }
}

override_resource {
  target          = aws_security_group.gateways
  override_during = plan
  values          = { id = "sg-gateways" }
}

override_resource {
  target          = aws_security_group.compactors
  override_during = plan
  values          = { id = "sg-compactors" }
}

override_resource {
  target          = aws_security_group.load_balancer
  override_during = plan
  values          = { id = "sg-load-balancer" }
}

variables {
  name   = "tl"
  image  = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/tidelog:1.2.3"
  ami_id = "ami-0aaaaaaaaaaaaaaaa"
  voters = {
    eu-central-1a = { node_id = 1, tls_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:node-1" }
    eu-central-1b = { node_id = 2, tls_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:node-2" }
    eu-central-1c = { node_id = 3, tls_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:node-3" }
  }
  gateway_tls_secret_arn   = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:gateway"
  tokens_secret_arn        = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:tokens"
  metrics_token_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:metrics"
  certificate_arn          = "arn:aws:acm:eu-central-1:123456789012:certificate/1"
  kms_key_arn              = "arn:aws:kms:eu-central-1:123456789012:key/1"
  operator_cidr_blocks     = ["10.9.0.0/24"]
}

run "the_bucket_is_private" {
  command = plan

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls,
      aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls,
      aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "all four kinds of public access are blocked"
  }

  assert {
    condition     = aws_s3_bucket_ownership_controls.this.rule[0].object_ownership == "BucketOwnerEnforced"
    error_message = "access lists are off"
  }

  assert {
    condition     = alltrue([for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement.Effect == "Deny"])
    error_message = "the bucket's policy allows nobody anything"
  }

  assert {
    condition     = aws_s3_bucket.this.force_destroy == false
    error_message = "a bucket with objects is never deleted"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm == "aws:kms"
    error_message = "the bucket is encrypted with the key that was given"
  }
}

run "the_bucket_takes_only_tls" {
  command = plan

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      statement.Effect == "Deny" && statement.Principal == "*" && statement.Action == "s3:*"
      && try(statement.Condition.Bool["aws:SecureTransport"], "") == "false"
      && toset(statement.Resource) == toset(["arn:aws:s3:::tl-123456789012-eu-central-1", "arn:aws:s3:::tl-123456789012-eu-central-1/*"])
    ])
    error_message = "everything without TLS is denied, to everybody, on the bucket and all its objects"
  }

  assert {
    condition     = anytrue([for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : try(statement.Condition.NumericLessThan["s3:TlsVersion"], "") == "1.2"])
    error_message = "TLS before 1.2 is denied"
  }
}

run "old_versions_and_interrupted_uploads_go" {
  command = plan

  assert {
    condition     = anytrue([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.status == "Enabled" && length(rule.abort_incomplete_multipart_upload) == 1])
    error_message = "interrupted uploads are removed"
  }

  assert {
    condition     = anytrue([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.status == "Enabled" && try(rule.noncurrent_version_expiration[0].noncurrent_days, 0) == 1])
    error_message = "old versions are removed"
  }

  assert {
    condition     = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.this.rule : alltrue([for expiration in rule.expiration : expiration.expired_object_delete_marker == true])])
    error_message = "no rule deletes live objects: that is Tidelog's own business"
  }
}

run "roles_have_no_wildcards" {
  command = plan

  assert {
    condition     = length(aws_iam_role_policy.machine) == 5
    error_message = "each voter, gateways and compactors have a role"
  }

  assert {
    condition = alltrue(flatten([
      for policy in aws_iam_role_policy.machine : [
        for statement in jsondecode(policy.policy).Statement : [for action in statement.Action : !strcontains(action, "*")]
      ]
    ]))
    error_message = "no action has a wildcard"
  }

  assert {
    condition = alltrue(flatten([
      for policy in aws_iam_role_policy.machine : [
        for statement in jsondecode(policy.policy).Statement :
        !contains(statement.Resource, "*") || (join(",", statement.Action) == "ecr:GetAuthorizationToken" && length(statement.Resource) == 1)
      ]
    ]))
    error_message = "every statement names its resources, but for the one action that has none"
  }

  assert {
    condition = alltrue(flatten([
      for policy in aws_iam_role_policy.machine : [
        for statement in jsondecode(policy.policy).Statement : [
          for resource in statement.Resource : resource == "arn:aws:s3:::tl-123456789012-eu-central-1/tidelog/*" || resource == "arn:aws:s3:::tl-123456789012-eu-central-1"
          if startswith(resource, "arn:aws:s3:")
        ]
      ]
    ]))
    error_message = "of S3 the machines may use only this bucket, and of its objects only the prefix"
  }

  assert {
    condition = alltrue(flatten([
      for policy in aws_iam_role_policy.machine : [
        for statement in jsondecode(policy.policy).Statement :
        toset(statement.Condition.StringLike["s3:prefix"]) == toset(["tidelog", "tidelog/*"]) if statement.Sid == "List"
      ]
    ]))
    error_message = "only the prefix may be listed"
  }

  assert {
    condition = alltrue(flatten([
      for statement in jsondecode(aws_iam_role_policy.machine["gateway"].policy).Statement : [
        for action in statement.Action : !contains(["s3:PutObject", "s3:DeleteObject", "kms:GenerateDataKey"], action)
      ]
    ]))
    error_message = "gateways write nothing into the bucket"
  }

  assert {
    condition = alltrue(flatten([
      for statement in jsondecode(aws_iam_role_policy.machine["voter-eu-central-1a"].policy).Statement : [
        for resource in statement.Resource : !endswith(resource, ":secret:node-2") && !endswith(resource, ":secret:gateway") && !endswith(resource, "/voter-eu-central-1b")
      ]
    ]))
    error_message = "a voter reads no secret and no settings of another one"
  }
}

run "the_peer_port_is_closed_to_clients" {
  command = plan

  assert {
    condition = alltrue([
      for rule in values(aws_vpc_security_group_ingress_rule.peer) :
      rule.cidr_ipv4 == null && rule.cidr_ipv6 == null && rule.prefix_list_id == null && rule.from_port == 7075 && rule.to_port == 7075 && rule.security_group_id == "sg-voters"
    ])
    error_message = "the peer port is open to no addresses"
  }

  assert {
    condition     = toset([for rule in values(aws_vpc_security_group_ingress_rule.peer) : rule.referenced_security_group_id]) == toset(["sg-voters", "sg-gateways", "sg-compactors"])
    error_message = "the peer port is open to voters, gateways and compactors alone"
  }

  assert {
    condition = alltrue([
      for rule in concat(
        values(aws_vpc_security_group_ingress_rule.client), values(aws_vpc_security_group_ingress_rule.operator), [aws_vpc_security_group_ingress_rule.gateway]
      ) : rule.to_port < 7075 && rule.from_port == rule.to_port
    ])
    error_message = "no other rule opens the peer port"
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.gateway.referenced_security_group_id == "sg-load-balancer" && aws_vpc_security_group_ingress_rule.gateway.from_port == 7070
    error_message = "clients reach gateways through the load balancer"
  }

  assert {
    condition     = aws_lb_target_group.gateways.port == 7070
    error_message = "the load balancer leads to the port for clients"
  }
}

run "there_are_three_zones" {
  command = plan

  assert {
    condition     = toset([for subnet in values(aws_subnet.private) : subnet.availability_zone]) == toset(["eu-central-1a", "eu-central-1b", "eu-central-1c"])
    error_message = "each zone has a subnet"
  }

  assert {
    condition     = length(distinct([for subnet in values(aws_subnet.private) : subnet.cidr_block])) == 3
    error_message = "the subnets' addresses differ"
  }

  assert {
    condition     = alltrue([for zone, volume in aws_ebs_volume.wal : volume.availability_zone == zone && volume.encrypted])
    error_message = "each zone has a volume, encrypted"
  }

  assert {
    condition     = length(module.voter) == 3
    error_message = "there are three voters"
  }

  assert {
    condition     = length(aws_subnet.public) == 0 && length(aws_internet_gateway.this) == 0
    error_message = "nothing is public unless asked for"
  }

  assert {
    condition     = one(aws_vpc_endpoint.s3[*].vpc_endpoint_type) == "Gateway"
    error_message = "S3 is reached by a gateway endpoint"
  }
}

run "the_load_balancer_is_internal_with_tls" {
  command = plan

  assert {
    condition     = aws_lb.this.internal && aws_lb.this.load_balancer_type == "network" && !aws_lb.this.enable_cross_zone_load_balancing && aws_lb.this.enable_deletion_protection
    error_message = "internal, of layer 4, each zone for itself, and not deleted by accident"
  }

  assert {
    condition     = aws_lb_listener.clients.protocol == "TLS" && aws_lb_listener.clients.port == 443 && aws_lb_target_group.gateways.protocol == "TLS"
    error_message = "TLS up to the gateway"
  }

  assert {
    condition     = aws_lb_target_group.gateways.health_check[0].path == "/readyz" && tonumber(aws_lb_target_group.gateways.deregistration_delay) == 60
    error_message = "ready gateways get connections, and gateways that leave keep theirs for a while"
  }
}

run "settings_say_what_the_network_does" {
  command = plan

  assert {
    condition     = strcontains(local.configs["voter-eu-central-1b"], "node_id = 2\n") && strcontains(local.configs["voter-eu-central-1b"], "advertise = \"10.42.16.10:7075\"")
    error_message = "a voter has its number and its address"
  }

  assert {
    condition     = alltrue([for config in values(local.configs) : strcontains(config, "nodes = [\"1=10.42.0.10:7075\",\"2=10.42.16.10:7075\",\"3=10.42.32.10:7075\"]")])
    error_message = "everybody has the same list of nodes"
  }

  assert {
    condition     = alltrue([for config in values(local.configs) : !strcontains(config, "insecure = true")])
    error_message = "nothing is insecure unless asked for"
  }

  assert {
    condition     = alltrue([for parameter in values(local.parameters) : !strcontains(parameter, "BEGIN ") && length(parameter) < 4000])
    error_message = "settings have no secrets and fit into a parameter"
  }

  assert {
    condition     = alltrue([for alarm in values(local.tidelog_alarms) : contains(flatten(values(local.metrics)), alarm.metric)])
    error_message = "each alarm's metric is one that the agents send"
  }

  assert {
    condition = alltrue([
      for alarm in values(local.tidelog_alarms) : alltrue([
        for label, value in alarm.dimensions : label == "kind" || contains(lookup(local.metrics, label, []), alarm.metric) && lookup(local.metric_values, label, value) == value
      ])
    ])
    error_message = "each alarm's dimensions are those with which its metric is sent"
  }
}

run "somebody_is_called" {
  command = plan

  variables {
    alarm_topic_arns   = ["arn:aws:sns:eu-central-1:123456789012:alarms"]
    log_retention_days = 90
  }

  assert {
    condition = alltrue(concat(
      [for alarm in values(aws_cloudwatch_metric_alarm.tidelog) : alarm.alarm_actions == toset(["arn:aws:sns:eu-central-1:123456789012:alarms"])],
      [for alarm in values(aws_cloudwatch_metric_alarm.gateways_healthy) : alarm.alarm_actions == toset(["arn:aws:sns:eu-central-1:123456789012:alarms"])],
      [for alarm in [aws_cloudwatch_metric_alarm.errors, one(aws_cloudwatch_metric_alarm.certificate[*])] : alarm.alarm_actions == toset(["arn:aws:sns:eu-central-1:123456789012:alarms"])],
    ))
    error_message = "alarms go to the topics that were given"
  }

  assert {
    condition     = alltrue([for alarm in values(aws_cloudwatch_metric_alarm.recover) : anytrue([for action in alarm.alarm_actions : action == "arn:aws:automate:eu-central-1:ec2:recover"])])
    error_message = "a voter whose host fails is started on another one"
  }

  assert {
    condition     = toset(keys(aws_cloudwatch_log_group.this)) == toset(["voter", "gateway", "compactor", "metrics"]) && alltrue([for group in values(aws_cloudwatch_log_group.this) : group.retention_in_days == 90 && group.kms_key_id == "arn:aws:kms:eu-central-1:123456789012:key/1"])
    error_message = "each kind has a log group, kept for as long as was said, encrypted"
  }
}

run "public_has_public_subnets_and_tls" {
  command = plan

  variables {
    public             = true
    client_cidr_blocks = ["0.0.0.0/0"]
  }

  assert {
    condition     = !aws_lb.this.internal && length(aws_subnet.public) == 3 && aws_lb_listener.clients.protocol == "TLS"
    error_message = "a public load balancer speaks TLS"
  }

  assert {
    condition     = alltrue([for subnet in values(aws_subnet.public) : subnet.map_public_ip_on_launch != true])
    error_message = "machines have no public addresses"
  }
}

run "an_existing_network_is_used" {
  command = plan

  variables {
    vpc_id          = "vpc-1"
    subnet_ids      = { eu-central-1a = "subnet-a", eu-central-1b = "subnet-b", eu-central-1c = "subnet-c" }
    route_table_ids = ["rtb-1"]
  }

  override_data {
    target = data.aws_vpc.existing[0]
    values = { cidr_block = "10.1.0.0/16" }
  }
  override_data {
    target = data.aws_subnet.existing["eu-central-1a"]
    values = { vpc_id = "vpc-1", availability_zone = "eu-central-1a", cidr_block = "10.1.0.0/20" }
  }
  override_data {
    target = data.aws_subnet.existing["eu-central-1b"]
    values = { vpc_id = "vpc-1", availability_zone = "eu-central-1b", cidr_block = "10.1.16.0/20" }
  }
  override_data {
    target = data.aws_subnet.existing["eu-central-1c"]
    values = { vpc_id = "vpc-1", availability_zone = "eu-central-1c", cidr_block = "10.1.32.0/20" }
  }

  assert {
    condition     = length(aws_vpc.this) == 0 && length(aws_subnet.private) == 0 && local.addresses["eu-central-1b"] == "10.1.16.10"
    error_message = "no network is made, and addresses are the subnets'"
  }

  assert {
    condition     = tolist(aws_vpc_endpoint.s3[0].route_table_ids) == tolist(["rtb-1"]) || toset(aws_vpc_endpoint.s3[0].route_table_ids) == toset(["rtb-1"])
    error_message = "the gateway endpoint is added to the route tables that were given"
  }
}

run "insecure_is_for_trials" {
  command = plan

  variables {
    insecure = true
    voters = {
      eu-central-1a = { node_id = 1 }
      eu-central-1b = { node_id = 2 }
      eu-central-1c = { node_id = 3 }
    }
    gateway_tls_secret_arn   = null
    tokens_secret_arn        = null
    metrics_token_secret_arn = null
    certificate_arn          = null
  }

  assert {
    condition     = aws_lb_listener.clients.protocol == "TCP" && aws_lb_listener.clients.port == 80 && aws_lb.this.internal
    error_message = "a trial has plain connections inside the VPC"
  }
}
