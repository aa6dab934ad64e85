output "instance_id" {
  description = "The machine."
  value       = aws_instance.this.id
}

output "ami_id" {
  description = "The AMI that it was made from."
  value       = aws_instance.this.ami
}

output "private_ip" {
  description = "The address."
  value       = one(aws_network_interface.this.private_ips)
}
