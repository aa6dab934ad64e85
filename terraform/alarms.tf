# What somebody should be called for. Each alarm says what it means and where the runbook is.

locals {
  runbook = "docs/operations.md"

  denied_alarms = {
    for kind in ["voter", "gateway", "compactor"] : "denied-${kind}" => {
      metric      = "tidelog_bucket_calls_total", dimensions = { kind = kind, outcome = "denied" }, statistic = "Sum"
      comparison  = "GreaterThanThreshold", threshold = 0, periods = 2, missing = "notBreaching"
      description = "The bucket refuses the ${kind}s' role: credentials, a policy or a key were changed (${local.runbook}, The bucket denies calls)."
    }
  }

  # Metrics of Tidelog. missing: what it means that nothing is reported.
  tidelog_alarms = merge(local.denied_alarms, {
    voter-away = {
      metric      = "tidelog_raft_away_members", dimensions = { kind = "voter" }, statistic = "Maximum"
      comparison  = "GreaterThanThreshold", threshold = 0, periods = 5, missing = "breaching"
      description = "A leader does not hear of a voter. One more, and nothing is acknowledged (${local.runbook}, A member is away)."
    }
    voter-lags = {
      metric      = "tidelog_raft_lag_entries", dimensions = { kind = "voter" }, statistic = "Maximum"
      comparison  = "GreaterThanThreshold", threshold = 50000, periods = 10, missing = "ignore"
      description = "A voter is far behind its leader and does not catch up (${local.runbook}, A member is behind)."
    }
    # Each shard is led by one node: the ones are as many as the shards.
    no-leader = {
      metric      = "tidelog_raft_is_leader", dimensions = { kind = "voter" }, statistic = "Sum"
      comparison  = "LessThanThreshold", threshold = var.shards, periods = 5, missing = "breaching"
      description = "A shard has no leader: its partitions take no records (${local.runbook}, No leader)."
    }
    bucket-away = {
      metric      = "tidelog_bucket_healthy", dimensions = { kind = "voter" }, statistic = "Maximum"
      comparison  = "LessThanThreshold", threshold = 1, periods = 5, missing = "ignore"
      description = "No voter reaches the bucket; records are taken until the log is full (${local.runbook}, The bucket does not answer)."
    }
    wal-fills = {
      metric      = "tidelog_wal_bytes", dimensions = { kind = "voter" }, statistic = "Maximum"
      comparison  = "GreaterThanThreshold", threshold = floor(var.wal_volume.size_gib * 7 / 10) * local.gib / 2, periods = 5, missing = "ignore"
      description = "Half of the log's budget is used: flushes are slow or stand still (${local.runbook}, The log nears its budget)."
    }
    disk-fills = {
      metric      = "tidelog_wal_disk_free_bytes", dimensions = { kind = "voter" }, statistic = "Minimum"
      comparison  = "LessThanThreshold", threshold = var.wal_volume.size_gib * local.gib / 10, periods = 5, missing = "ignore"
      description = "A voter's disk has less than a tenth free (${local.runbook}, The disk of the log is low)."
    }
    refused = {
      metric      = "tidelog_produce_refused_total", dimensions = { kind = "gateway" }, statistic = "Sum"
      comparison  = "GreaterThanThreshold", threshold = 0, periods = 5, missing = "notBreaching"
      description = "Producers are told to come back later, because memory or the log's budget is used up (${local.runbook}, Records are refused)."
    }
    flush-stands = {
      metric      = "tidelog_job_last_success_age_seconds", dimensions = { kind = "voter", task = "flush" }, statistic = "Maximum"
      comparison  = "GreaterThanThreshold", threshold = 600, periods = 5, missing = "ignore"
      description = "Nothing was flushed for ten minutes (${local.runbook}, Flushes are late)."
    }
    gc-stands = {
      metric      = "tidelog_job_last_success_age_seconds", dimensions = { kind = "voter", task = "gc" }, statistic = "Maximum"
      comparison  = "GreaterThanThreshold", threshold = 7200, periods = 5, missing = "ignore"
      description = "Garbage was not collected for two hours (${local.runbook}, A background job is late)."
    }
    retention-stands = {
      metric      = "tidelog_job_last_success_age_seconds", dimensions = { kind = "voter", task = "retention" }, statistic = "Maximum"
      comparison  = "GreaterThanThreshold", threshold = 3600, periods = 5, missing = "ignore"
      description = "Retention did not run for an hour (${local.runbook}, A background job is late)."
    }
    compactors-behind = {
      metric      = "tidelog_segments", dimensions = { kind = "voter" }, statistic = "Maximum"
      comparison  = "GreaterThanThreshold", threshold = 4 * var.compactors.backlog_segments, periods = 30, missing = "ignore"
      description = "Segments wait for compactors, of which there are as many as allowed, or none that works (${local.runbook}, Segments pile up)."
    }
  })
}

resource "aws_cloudwatch_metric_alarm" "tidelog" {
  for_each            = local.tidelog_alarms
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = local.metric_namespace
  metric_name         = each.value.metric
  dimensions          = merge({ cluster = var.name }, each.value.dimensions)
  statistic           = each.value.statistic
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = each.value.periods
  treat_missing_data  = each.value.missing
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = local.tags
}

# Of a hundred requests more than two fail by our fault.
resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${var.name}-errors"
  alarm_description   = "More than 2% of requests are answered with 5xx (${local.runbook}, Requests fail)."
  comparison_operator = "GreaterThanThreshold"
  threshold           = 2
  evaluation_periods  = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = local.tags

  metric_query {
    id          = "share"
    expression  = "100 * FILL(failed, 0) / (FILL(failed, 0) + good)"
    label       = "Share of 5xx in percent"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { failed = "5xx", good = "2xx" }

    content {
      id = metric_query.key

      metric {
        namespace   = local.metric_namespace
        metric_name = "tidelog_http_requests_total"
        dimensions  = { cluster = var.name, kind = "gateway", status = metric_query.value }
        period      = 60
        stat        = "Sum"
      }
    }
  }
}

# What AWS knows of the machines.

resource "aws_cloudwatch_metric_alarm" "recover" {
  for_each            = var.voters
  alarm_name          = "${var.name}-recover-${each.key}"
  alarm_description   = "The host of voter ${each.value.node_id} failed: AWS starts it on another one, with the same address and volume."
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed_System"
  dimensions          = { InstanceId = module.voter[each.key].instance_id }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 3
  treat_missing_data  = "missing"
  alarm_actions       = concat(["arn:${local.partition}:automate:${local.region}:ec2:recover"], var.alarm_topic_arns)
  ok_actions          = var.alarm_topic_arns
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "gateways_healthy" {
  for_each            = toset(local.zones)
  alarm_name          = "${var.name}-gateways-${each.key}"
  alarm_description   = "No gateway of ${each.key} is ready: clients that are sent there are refused (${local.runbook}, A process is gone)."
  namespace           = "AWS/NetworkELB"
  metric_name         = "HealthyHostCount"
  statistic           = "Minimum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 3
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = local.tags

  dimensions = {
    LoadBalancer     = aws_lb.this.arn_suffix
    TargetGroup      = aws_lb_target_group.gateways.arn_suffix
    AvailabilityZone = each.key
  }
}

# ACM renews its own certificates long before this, as long as it can validate them; imported ones it does not. Those of voters and
# gateways are in secrets that only the machines read: monitoring/rules has the alert for them.
resource "aws_cloudwatch_metric_alarm" "certificate" {
  count               = try(startswith(split(":", var.certificate_arn)[2], "acm"), false) ? 1 : 0
  alarm_name          = "${var.name}-certificate"
  alarm_description   = "The certificate that clients see ends within two weeks (${local.runbook}, A certificate ends)."
  namespace           = "AWS/CertificateManager"
  metric_name         = "DaysToExpiry"
  dimensions          = { CertificateArn = var.certificate_arn }
  statistic           = "Minimum"
  comparison_operator = "LessThanThreshold"
  threshold           = 14
  period              = 86400
  evaluation_periods  = 1
  treat_missing_data  = "ignore"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = local.tags
}
