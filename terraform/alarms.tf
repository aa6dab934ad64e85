# What somebody should be called for. Each alarm says what it means and where the runbook is.

locals {
  runbook = "docs/operations.md"

  # Metrics of Tidelog. missing: what it means that nothing is reported.
  tidelog_alarms = {
    voter-away = {
      metric      = "tidelog_raft_away_members", dimensions = { kind = "voter" }, statistic = "Maximum"
      comparison  = "GreaterThanThreshold", threshold = 0, periods = 5, missing = "breaching"
      description = "A leader does not hear of a voter. One more, and nothing is acknowledged (${local.runbook}, Losing a node)."
    }
    voter-lags = {
      metric      = "tidelog_raft_lag_entries", dimensions = { kind = "voter" }, statistic = "Maximum"
      comparison  = "GreaterThanThreshold", threshold = 50000, periods = 10, missing = "ignore"
      description = "A voter is far behind its leader and does not catch up (${local.runbook}, Looking at it)."
    }
    # Each shard is led by one node: the ones are as many as the shards.
    no-leader = {
      metric      = "tidelog_raft_is_leader", dimensions = { kind = "voter" }, statistic = "Sum"
      comparison  = "LessThanThreshold", threshold = var.shards, periods = 5, missing = "breaching"
      description = "A shard has no leader: its partitions take no records (${local.runbook}, Losing a majority)."
    }
    bucket-away = {
      metric      = "tidelog_bucket_healthy", dimensions = { kind = "voter" }, statistic = "Maximum"
      comparison  = "LessThanThreshold", threshold = 1, periods = 5, missing = "ignore"
      description = "No voter reaches the bucket; records are taken until the log is full (${local.runbook}, When the bucket is away)."
    }
    wal-fills = {
      metric      = "tidelog_wal_bytes", dimensions = { kind = "voter" }, statistic = "Maximum"
      comparison  = "GreaterThanThreshold", threshold = floor(var.wal_volume.size_gib * 7 / 10) * local.gib / 2, periods = 5, missing = "ignore"
      description = "Half of the log's budget is used: flushes are slow or stand still (${local.runbook}, When the bucket is away)."
    }
    disk-fills = {
      metric      = "tidelog_wal_disk_free_bytes", dimensions = { kind = "voter" }, statistic = "Minimum"
      comparison  = "LessThanThreshold", threshold = var.wal_volume.size_gib * local.gib / 10, periods = 5, missing = "ignore"
      description = "A voter's disk has less than a tenth free (${local.runbook}, When a disk is full)."
    }
    refused = {
      metric      = "tidelog_produce_refused_total", dimensions = { kind = "gateway" }, statistic = "Sum"
      comparison  = "GreaterThanThreshold", threshold = 0, periods = 5, missing = "notBreaching"
      description = "Producers are told to come back later, because memory or the log's budget is used up."
    }
    flush-stands = {
      metric      = "tidelog_job_last_success_age_seconds", dimensions = { kind = "voter", exported_job = "flush" }, statistic = "Maximum"
      comparison  = "GreaterThanThreshold", threshold = 600, periods = 5, missing = "ignore"
      description = "Nothing was flushed for ten minutes (${local.runbook}, When the bucket is away)."
    }
    gc-stands = {
      metric      = "tidelog_job_last_success_age_seconds", dimensions = { kind = "voter", exported_job = "gc" }, statistic = "Maximum"
      comparison  = "GreaterThanThreshold", threshold = 7200, periods = 5, missing = "ignore"
      description = "Garbage was not collected for two hours; tidelog admin status says why."
    }
    retention-stands = {
      metric      = "tidelog_job_last_success_age_seconds", dimensions = { kind = "voter", exported_job = "retention" }, statistic = "Maximum"
      comparison  = "GreaterThanThreshold", threshold = 3600, periods = 5, missing = "ignore"
      description = "Retention did not run for an hour; tidelog admin status says why."
    }
    compactors-behind = {
      metric      = "tidelog_segments", dimensions = { kind = "voter" }, statistic = "Maximum"
      comparison  = "GreaterThanThreshold", threshold = 4 * var.compactors.backlog_segments, periods = 30, missing = "ignore"
      description = "Segments wait for compactors, of which there are as many as allowed, or none that works."
    }
  }
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
  alarm_description   = "More than 2% of requests are answered with 5xx (${local.runbook}, Metrics)."
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
  alarm_description   = "No gateway of ${each.key} is ready: clients that are sent there are refused."
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
