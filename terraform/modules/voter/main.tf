# One voter: its address (a network interface), its machine, and its volume attached to it. The volume itself is given, because
# it outlives this module. Changing the AMI or the user data changes nothing here: roll.sh replaces the machine when that is
# wanted, one voter at a time, with the interface and the volume kept.

resource "aws_network_interface" "this" {
  subnet_id       = var.subnet_id
  private_ips     = [var.private_ip]
  security_groups = var.security_group_ids
  description     = "The address of ${var.name}"
  tags            = merge(var.tags, { Name = var.name })
}

resource "aws_instance" "this" {
  ami                     = var.ami_id
  instance_type           = var.instance_type
  iam_instance_profile    = var.instance_profile
  user_data_base64        = base64gzip(var.user_data)
  ebs_optimized           = true
  monitoring              = var.detailed_monitoring
  disable_api_termination = var.termination_disabled
  # A shutdown from inside stops the machine; only Terraform ends it.
  instance_initiated_shutdown_behavior = "stop"

  network_interface {
    device_index         = 0
    network_interface_id = aws_network_interface.this.id
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  # A machine whose host fails is started anew on another one, with the same address and volume.
  maintenance_options {
    auto_recovery = "default"
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 20
    encrypted   = true
    kms_key_id  = var.kms_key_arn
    tags        = merge(var.tags, { Name = "${var.name}-root" })
  }

  tags = merge(var.tags, { Name = var.name })

  lifecycle {
    ignore_changes = [ami, user_data, user_data_base64]
  }
}

resource "aws_volume_attachment" "wal" {
  device_name = "/dev/sdf"
  volume_id   = var.volume_id
  instance_id = aws_instance.this.id
  # Never pulled from a machine that writes to it.
  stop_instance_before_detaching = true
}
