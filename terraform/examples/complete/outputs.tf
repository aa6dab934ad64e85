output "endpoint" {
  description = "URL for clients."
  value       = module.tidelog.endpoint
}

output "bucket" {
  description = "URL of the bucket."
  value       = module.tidelog.bucket
}

output "voters" {
  description = "The voters, as roll.sh takes them."
  value       = module.tidelog.voters
}
