# A network load balancer before the gateways, and before nothing else: peers call each other by address.

resource "aws_lb" "this" {
  name                             = var.name
  load_balancer_type               = "network"
  internal                         = !var.public
  subnets                          = [for zone in local.zones : var.public ? local.public_subnet_ids[zone] : local.subnet_ids[zone]]
  security_groups                  = [aws_security_group.load_balancer.id]
  enable_deletion_protection       = var.deletion_protection
  enable_cross_zone_load_balancing = false
  # A client is answered in its own zone, where no byte is charged for crossing.
  dns_record_client_routing_policy = var.public ? "any_availability_zone" : "availability_zone_affinity"
  tags                             = local.tags

  dynamic "access_logs" {
    for_each = var.access_log_bucket == null ? [] : [var.access_log_bucket]

    content {
      bucket  = access_logs.value
      prefix  = "${var.name}/load-balancer"
      enabled = true
    }
  }

  lifecycle {
    # A cluster that everybody can reach has TLS and tokens; variables.tf refuses it too, before anything is planned.
    precondition {
      condition     = !var.public || (var.certificate_arn != null && var.tokens_secret_arn != null && local.gateway_tls)
      error_message = "public = true requires certificate_arn, gateway_tls_secret_arn and tokens_secret_arn."
    }
  }
}

resource "aws_lb_target_group" "gateways" {
  name                   = "${var.name}-gateway"
  vpc_id                 = local.vpc_id
  target_type            = "instance"
  port                   = local.ports.client
  protocol               = local.gateway_tls ? "TLS" : "TCP"
  deregistration_delay   = 60
  connection_termination = true
  preserve_client_ip     = true
  tags                   = local.tags

  health_check {
    protocol            = local.gateway_tls ? "HTTPS" : "HTTP"
    path                = "/readyz"
    port                = "traffic-port"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "clients" {
  load_balancer_arn = aws_lb.this.arn
  port              = local.listener_port
  protocol          = var.certificate_arn == null ? "TCP" : "TLS"
  certificate_arn   = var.certificate_arn
  ssl_policy        = var.certificate_arn == null ? null : "ELBSecurityPolicy-TLS13-1-2-2021-06"
  alpn_policy       = var.certificate_arn == null ? null : "HTTP2Preferred"
  tags              = local.tags

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.gateways.arn
  }
}
