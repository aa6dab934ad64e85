output "endpoint" {
  description = "URL for clients (--server), by the load balancer's own name; with a certificate use a name of yours that points there."
  value       = "${var.certificate_arn == null ? "http" : "https"}://${aws_lb.this.dns_name}"
}

output "load_balancer_dns_name" {
  description = "Name of the load balancer, for a record of yours."
  value       = aws_lb.this.dns_name
}

output "load_balancer_zone_id" {
  description = "Hosted zone of that name, for an alias record."
  value       = aws_lb.this.zone_id
}

output "bucket" {
  description = "URL of the bucket, as --bucket takes it."
  value       = local.bucket_url
}

output "bucket_arn" {
  description = "ARN of the bucket."
  value       = local.bucket_arn
}

output "voters" {
  description = "The voters, as roll.sh takes them: node id, zone, machine, volume, addresses and what Terraform calls its machine."
  value = [
    for zone in local.zones : {
      node_id      = var.voters[zone].node_id
      zone         = zone
      instance_id  = module.voter[zone].instance_id
      volume_id    = aws_ebs_volume.wal[zone].id
      peer_address = "${local.addresses[zone]}:${local.ports.peer}"
      admin_url    = "${local.operators && local.voters_tls ? "https" : "http"}://${local.operators ? local.addresses[zone] : "127.0.0.1"}:${local.ports.operator}"
      resource     = "module.voter[\"${zone}\"].aws_instance.this"
    }
  ]
}

output "vpc_id" {
  description = "The VPC."
  value       = local.vpc_id
}

output "subnet_ids" {
  description = "Private subnets by zone."
  value       = local.subnet_ids
}

output "security_group_ids" {
  description = "Security groups: voters, gateways, compactors, load_balancer, endpoints."
  value = merge(local.peers, {
    load_balancer = aws_security_group.load_balancer.id
    endpoints     = aws_security_group.endpoints.id
  })
}

output "autoscaling_groups" {
  description = "Names of the autoscaling groups: gateways, compactors."
  value = {
    gateways   = module.gateways.autoscaling_group_name
    compactors = module.compactors.autoscaling_group_name
  }
}

output "role_arns" {
  description = "Roles of the machines by name."
  value       = { for machine, role in aws_iam_role.machine : machine => role.arn }
}

output "log_groups" {
  description = "Log groups by kind."
  value       = { for kind, group in aws_cloudwatch_log_group.this : kind => group.name }
}
