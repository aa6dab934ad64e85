# A cluster for production in a VPC of its own: three zones, TLS and tokens everywhere, alarms to a topic.

resource "aws_sns_topic" "alarms" {
  name              = "tidelog-alarms"
  kms_master_key_id = "alias/aws/sns"
}

module "tidelog" {
  source = "../.."

  name  = "orders"
  image = var.image

  voters = {
    "${var.region}a" = { node_id = 1, tls_secret_arn = var.node_secret_arns[0] }
    "${var.region}b" = { node_id = 2, tls_secret_arn = var.node_secret_arns[1] }
    "${var.region}c" = { node_id = 3, tls_secret_arn = var.node_secret_arns[2] }
  }
  wal_volume = { size_gib = 200, throughput = 500 }
  gateways   = { min = 3, max = 9 }
  settings   = { FLUSH__BYTES = "64MiB" }

  certificate_arn          = var.certificate_arn
  gateway_tls_secret_arn   = var.gateway_secret_arn
  tokens_secret_arn        = var.tokens_secret_arn
  metrics_token_secret_arn = var.metrics_token_secret_arn

  ami_id               = var.ami_id
  operator_cidr_blocks = var.operator_cidr_blocks
  alarm_topic_arns     = [aws_sns_topic.alarms.arn]
  deletion_protection  = var.deletion_protection
  detailed_monitoring  = var.detailed_monitoring
  tags                 = { service = "orders" }
}
