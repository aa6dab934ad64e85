# Three machines by name, not an autoscaling group: each has an address and a disk of its own for good, and no machine but
# AWS' auto-recovery and roll.sh ever stops one.

# The log of a voter: what it acknowledged and what it voted. Terraform refuses to destroy it; see README, "A lost volume".
resource "aws_ebs_volume" "wal" {
  for_each          = var.voters
  availability_zone = each.key
  type              = "gp3"
  size              = var.wal_volume.size_gib
  iops              = var.wal_volume.iops
  throughput        = var.wal_volume.throughput
  encrypted         = true
  kms_key_id        = var.kms_key_arn
  tags              = merge(local.tags, { Name = "${var.name}-wal-${each.key}" })

  lifecycle {
    prevent_destroy = true
  }
}

data "aws_ssm_parameter" "ami" {
  count = var.ami_id == null ? 1 : 0
  name  = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-${var.architecture}"
}

locals {
  ami_id = var.ami_id == null ? nonsensitive(data.aws_ssm_parameter.ami[0].value) : var.ami_id
}

module "voter" {
  source   = "./modules/voter"
  for_each = var.voters

  name                 = "${var.name}-voter-${each.key}"
  ami_id               = local.ami_id
  instance_type        = var.voter_instance_type
  instance_profile     = aws_iam_instance_profile.machine["voter-${each.key}"].name
  subnet_id            = local.subnet_ids[each.key]
  private_ip           = local.addresses[each.key]
  security_group_ids   = [aws_security_group.voters.id]
  volume_id            = aws_ebs_volume.wal[each.key].id
  kms_key_arn          = var.kms_key_arn
  termination_disabled = var.deletion_protection
  detailed_monitoring  = var.detailed_monitoring
  user_data            = local.user_data["voter-${each.key}"]
  tags                 = local.tags

  depends_on = [
    aws_iam_role_policy.machine, aws_ssm_parameter.settings, aws_cloudwatch_log_group.this,
    aws_vpc_endpoint.s3, aws_vpc_endpoint.interface, aws_s3_bucket_policy.this,
  ]
}
