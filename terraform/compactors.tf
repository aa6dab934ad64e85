# Compactors follow the shards as gateways do, and serve nobody. Their number follows the backlog: live segments of the shard
# that has the most, which the voters report.

module "compactors" {
  source = "./modules/fleet"

  name                = "${var.name}-compactor"
  ami_id              = local.ami_id
  instance_type       = var.compactors.instance_type
  instance_profile    = aws_iam_instance_profile.machine["compactor"].name
  subnet_ids          = [for zone in local.zones : local.subnet_ids[zone]]
  security_group_ids  = [aws_security_group.compactors.id]
  min                 = var.compactors.min
  max                 = var.compactors.max
  disk_gib            = var.compactors.cache_gib
  kms_key_arn         = var.kms_key_arn
  user_data           = local.user_data["compactor"]
  detailed_monitoring = var.detailed_monitoring
  tags                = local.tags

  depends_on = [aws_iam_role_policy.machine, aws_ssm_parameter.settings, aws_cloudwatch_log_group.this, module.voter]
}

resource "aws_autoscaling_policy" "compactors_more" {
  name                   = "${var.name}-compactor-more"
  autoscaling_group_name = module.compactors.autoscaling_group_name
  policy_type            = "StepScaling"
  adjustment_type        = "ChangeInCapacity"

  step_adjustment {
    scaling_adjustment          = 1
    metric_interval_lower_bound = 0
    metric_interval_upper_bound = var.compactors.backlog_segments
  }

  step_adjustment {
    scaling_adjustment          = 2
    metric_interval_lower_bound = var.compactors.backlog_segments
  }
}

resource "aws_autoscaling_policy" "compactors_fewer" {
  name                   = "${var.name}-compactor-fewer"
  autoscaling_group_name = module.compactors.autoscaling_group_name
  policy_type            = "SimpleScaling"
  adjustment_type        = "ChangeInCapacity"
  scaling_adjustment     = -1
  cooldown               = 600
}

resource "aws_cloudwatch_metric_alarm" "backlog_high" {
  alarm_name          = "${var.name}-backlog-high"
  alarm_description   = "A shard has more segments than ${var.compactors.backlog_segments}: a compactor is added."
  namespace           = local.metric_namespace
  metric_name         = "tidelog_segments"
  dimensions          = { cluster = var.name, kind = "voter" }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = var.compactors.backlog_segments
  period              = 60
  evaluation_periods  = 5
  treat_missing_data  = "ignore"
  alarm_actions       = [aws_autoscaling_policy.compactors_more.arn]
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "backlog_low" {
  alarm_name          = "${var.name}-backlog-low"
  alarm_description   = "No shard has more than a quarter of ${var.compactors.backlog_segments} segments: a compactor is taken away."
  namespace           = local.metric_namespace
  metric_name         = "tidelog_segments"
  dimensions          = { cluster = var.name, kind = "voter" }
  statistic           = "Maximum"
  comparison_operator = "LessThanThreshold"
  threshold           = var.compactors.backlog_segments / 4
  period              = 300
  evaluation_periods  = 6
  treat_missing_data  = "ignore"
  alarm_actions       = [aws_autoscaling_policy.compactors_fewer.arn]
  tags                = local.tags
}
