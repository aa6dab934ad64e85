# What the processes say, by kind, and the metrics that each machine's CloudWatch agent reads from the port for operators.

resource "aws_cloudwatch_log_group" "this" {
  for_each          = toset(["voter", "gateway", "compactor", "metrics"])
  name              = "/tidelog/${var.name}/${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = local.tags
}

locals {
  metric_namespace = "Tidelog"

  # Metrics of Tidelog that become metrics of CloudWatch, by the labels that become dimensions beside cluster and kind. Few, as
  # each costs money: alarms and scaling use them, everything else is for Prometheus.
  metrics = {
    plain = [
      "tidelog_bucket_healthy", "tidelog_wal_bytes", "tidelog_wal_budget_bytes", "tidelog_wal_disk_free_bytes",
      "tidelog_raft_is_leader", "tidelog_raft_away_members", "tidelog_raft_lag_entries", "tidelog_segments",
      "tidelog_produce_refused_total", "tidelog_uptime_seconds",
    ]
    task    = ["tidelog_job_last_success_age_seconds"]
    status  = ["tidelog_http_requests_total"]
    outcome = ["tidelog_bucket_calls_total"]
  }
  # Of a label with many values, those that anything looks at.
  metric_values = { outcome = "denied" }

  metric_declarations = [
    for label, names in local.metrics : {
      source_labels    = concat(["job"], contains(keys(local.metric_values), label) ? [label] : [])
      label_matcher    = "^${join(";", compact(["tidelog", lookup(local.metric_values, label, "")]))}$"
      dimensions       = [label == "plain" ? ["cluster", "kind"] : ["cluster", "kind", label]]
      metric_selectors = ["^(${join("|", names)})$"]
    }
  ]

  agent_config = jsonencode({
    agent = { metrics_collection_interval = 60, run_as_user = "root" }
    logs = {
      metrics_collected = {
        prometheus = {
          log_group_name         = "/tidelog/${var.name}/metrics"
          prometheus_config_path = "/etc/tidelog/prometheus.yaml"
          emf_processor = {
            metric_declaration_dedup = true
            metric_namespace         = local.metric_namespace
            metric_declaration       = local.metric_declarations
          }
        }
      }
      force_flush_interval = 15
    }
  })

  user_data = {
    for machine, it in local.machines : machine => templatefile("${path.module}/templates/user-data.sh.tftpl", {
      name        = var.name
      machine     = machine
      kind        = it.kind
      region      = local.region
      volume_id   = it.kind == "voter" ? aws_ebs_volume.wal[trimprefix(machine, "voter-")].id : ""
      tls_secret  = it.kind == "voter" ? coalesce(var.voters[trimprefix(machine, "voter-")].tls_secret_arn, "-") : coalesce(var.gateway_tls_secret_arn, "-")
      tokens      = coalesce(var.tokens_secret_arn, "-")
      token       = coalesce(var.metrics_token_secret_arn, "-")
      server_name = it.kind == "voter" ? "node-${var.voters[trimprefix(machine, "voter-")].node_id}.tidelog" : "gateway.tidelog"
      scheme      = it.kind == "voter" && local.operators && local.voters_tls ? "https" : "http"
      agent       = local.agent_config
      volume      = file("${path.module}/files/volume.sh")
      settings    = file("${path.module}/files/settings.sh")
      # Machines without a volume are replaced when what they run changes; voters read it at their next start.
      revision = it.kind == "voter" ? "" : sha256(local.parameters[machine])
    })
  }
}
