# Gateways: everything that clients talk to. They keep nothing but a cache.

module "gateways" {
  source = "./modules/fleet"

  name                = "${var.name}-gateway"
  ami_id              = local.ami_id
  instance_type       = var.gateways.instance_type
  instance_profile    = aws_iam_instance_profile.machine["gateway"].name
  subnet_ids          = [for zone in local.zones : local.subnet_ids[zone]]
  security_group_ids  = [aws_security_group.gateways.id]
  min                 = var.gateways.min
  max                 = var.gateways.max
  disk_gib            = var.gateways.cache_gib
  kms_key_arn         = var.kms_key_arn
  target_group_arns   = [aws_lb_target_group.gateways.arn]
  user_data           = local.user_data["gateway"]
  detailed_monitoring = var.detailed_monitoring
  tags                = local.tags

  depends_on = [aws_iam_role_policy.machine, aws_ssm_parameter.settings, aws_cloudwatch_log_group.this, module.voter]
}

resource "aws_autoscaling_policy" "gateways" {
  name                   = "${var.name}-gateway-cpu"
  autoscaling_group_name = module.gateways.autoscaling_group_name
  policy_type            = "TargetTrackingScaling"

  target_tracking_configuration {
    target_value = var.gateways.cpu_target

    predefined_metric_specification {
      predefined_metric_type = "ASGAverageCPUUtilization"
    }
  }
}
