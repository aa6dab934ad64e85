# Who reaches which port. Peers are voters, gateways and compactors: nobody else is let through to the peer port, whose callers
# may write to the log.

locals {
  ports = { client = 7070, operator = 7071, peer = 7075 }
  # Groups of those who call voters.
  peers = {
    voters     = aws_security_group.voters.id
    gateways   = aws_security_group.gateways.id
    compactors = aws_security_group.compactors.id
  }
  client_cidr_blocks = toset(length(var.client_cidr_blocks) > 0 ? var.client_cidr_blocks : [local.vpc_cidr])
  listener_port      = var.certificate_arn == null ? 80 : 443
}

resource "aws_security_group" "voters" {
  name        = "${var.name}-voters"
  description = "Voters of ${var.name}"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-voters" })
}

resource "aws_security_group" "gateways" {
  name        = "${var.name}-gateways"
  description = "Gateways of ${var.name}"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-gateways" })
}

resource "aws_security_group" "compactors" {
  name        = "${var.name}-compactors"
  description = "Compactors of ${var.name}"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-compactors" })
}

resource "aws_security_group" "load_balancer" {
  name        = "${var.name}-load-balancer"
  description = "Load balancer of ${var.name}"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-load-balancer" })
}

resource "aws_security_group" "endpoints" {
  name        = "${var.name}-endpoints"
  description = "Endpoints of AWS services for ${var.name}"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-endpoints" })
}

resource "aws_vpc_security_group_ingress_rule" "peer" {
  for_each                     = local.peers
  security_group_id            = aws_security_group.voters.id
  referenced_security_group_id = each.value
  description                  = "Peer port from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = local.ports.peer
  to_port                      = local.ports.peer
  tags                         = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "operator" {
  for_each          = toset(var.operator_cidr_blocks)
  security_group_id = aws_security_group.voters.id
  cidr_ipv4         = each.value
  description       = "Port for operators"
  ip_protocol       = "tcp"
  from_port         = local.ports.operator
  to_port           = local.ports.operator
  tags              = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "gateway" {
  security_group_id            = aws_security_group.gateways.id
  referenced_security_group_id = aws_security_group.load_balancer.id
  description                  = "Port for clients from the load balancer"
  ip_protocol                  = "tcp"
  from_port                    = local.ports.client
  to_port                      = local.ports.client
  tags                         = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "client" {
  for_each          = local.client_cidr_blocks
  security_group_id = aws_security_group.load_balancer.id
  cidr_ipv4         = each.value
  description       = "Clients"
  ip_protocol       = "tcp"
  from_port         = local.listener_port
  to_port           = local.listener_port
  tags              = local.tags
}

resource "aws_vpc_security_group_egress_rule" "load_balancer" {
  security_group_id            = aws_security_group.load_balancer.id
  referenced_security_group_id = aws_security_group.gateways.id
  description                  = "Gateways and their health checks"
  ip_protocol                  = "tcp"
  from_port                    = local.ports.client
  to_port                      = local.ports.client
  tags                         = local.tags
}

resource "aws_vpc_security_group_egress_rule" "peer" {
  for_each                     = local.peers
  security_group_id            = each.value
  referenced_security_group_id = aws_security_group.voters.id
  description                  = "Peer port of the voters"
  ip_protocol                  = "tcp"
  from_port                    = local.ports.peer
  to_port                      = local.ports.peer
  tags                         = local.tags
}

# S3 by its gateway endpoint has public addresses, and so has every service without an interface endpoint: where they may go is
# said by the route tables, the endpoints' policies and the roles.
resource "aws_vpc_security_group_egress_rule" "https" {
  for_each          = local.peers
  security_group_id = each.value
  cidr_ipv4         = "0.0.0.0/0"
  description       = "S3 and the services of AWS"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  tags              = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  for_each                     = local.peers
  security_group_id            = aws_security_group.endpoints.id
  referenced_security_group_id = each.value
  description                  = "HTTPS from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  tags                         = local.tags
}
