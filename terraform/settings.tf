# What each machine runs and how: one parameter of Systems Manager for each kind, read before every start of the service. So a
# new image or setting reaches a voter by a restart, and never by replacing its instance. Nothing in it is secret: secrets are
# read by the machines themselves, by ARN, and are never in Terraform's state.

locals {
  gib        = 1024 * 1024 * 1024
  tls_dir    = "/etc/tidelog/secrets"
  bucket_url = "s3://${local.bucket_name}/${var.bucket_prefix}"

  addresses = {
    for zone, voter in var.voters : zone => coalesce(voter.private_ip, cidrhost(local.subnet_cidrs[zone], 10))
  }
  # In the order of their numbers: the smallest founds the cluster.
  nodes = [
    for at in sort([for zone, voter in var.voters : format("%020d %s", voter.node_id, zone)]) :
    "${var.voters[split(" ", at)[1]].node_id}=${local.addresses[split(" ", at)[1]]}:${local.ports.peer}"
  ]

  voters_tls  = alltrue([for voter in var.voters : voter.tls_secret_arn != null])
  gateway_tls = var.gateway_tls_secret_arn != null
  tokens      = var.tokens_secret_arn != null
  # The port for operators leaves loopback only for those who are named.
  operators = length(var.operator_cidr_blocks) > 0

  configs = merge(
    {
      for zone, voter in var.voters : "voter-${zone}" => templatefile("${path.module}/templates/tidelog.toml.tftpl", {
        bucket_url     = local.bucket_url
        roles          = ["gateway", "wal"]
        node_id        = voter.node_id
        nodes          = local.nodes
        shards         = var.shards
        peer_listen    = "0.0.0.0:${local.ports.peer}"
        peer_advertise = "${local.addresses[zone]}:${local.ports.peer}"
        # Clients are the gateways' business; the machine's own checks use this.
        http_listen    = "127.0.0.1:${local.ports.client}"
        admin_listen   = local.operators ? "0.0.0.0:${local.ports.operator}" : "127.0.0.1:${local.ports.operator}"
        insecure       = var.insecure
        http_tls       = false
        admin_tls      = local.operators && local.voters_tls
        peer_tls       = local.voters_tls
        tokens         = local.tokens
        tls_dir        = local.tls_dir
        wal_budget     = floor(var.wal_volume.size_gib * 7 / 10)
        cache_disk     = max(1, floor(var.wal_volume.size_gib / 10))
        drain_delay    = "0s"
        drain_deadline = "60s"
      })
    },
    {
      for kind in ["gateway", "compactor"] : kind => templatefile("${path.module}/templates/tidelog.toml.tftpl", {
        bucket_url     = local.bucket_url
        roles          = kind == "gateway" ? ["gateway"] : ["gateway", "compactor"]
        node_id        = null
        nodes          = local.nodes
        shards         = null
        peer_listen    = null
        peer_advertise = null
        http_listen    = kind == "gateway" ? "0.0.0.0:${local.ports.client}" : "127.0.0.1:${local.ports.client}"
        admin_listen   = "127.0.0.1:${local.ports.operator}"
        insecure       = var.insecure
        http_tls       = kind == "gateway" && local.gateway_tls
        admin_tls      = false
        peer_tls       = local.gateway_tls
        tokens         = local.tokens
        tls_dir        = local.tls_dir
        wal_budget     = null
        cache_disk     = floor((kind == "gateway" ? var.gateways.cache_gib : var.compactors.cache_gib) * 7 / 10)
        # Longer than the load balancer needs to notice: two health checks that fail, and one more.
        drain_delay    = kind == "gateway" ? "30s" : "0s"
        drain_deadline = "90s"
      })
    },
  )

  parameters = {
    for machine, config in local.configs : machine => jsonencode({
      image       = var.image
      config      = config
      environment = { for key, value in var.settings : "TIDELOG__${key}" => value }
    })
  }
}

resource "aws_ssm_parameter" "settings" {
  for_each    = local.parameters
  name        = "/${var.name}/${each.key}"
  description = "What ${each.key} of Tidelog cluster ${var.name} runs"
  type        = "String"
  # Above 4 KiB a parameter has to be an advanced one.
  tier  = length(each.value) > 4000 ? "Advanced" : "Standard"
  value = each.value
  tags  = local.tags
}
