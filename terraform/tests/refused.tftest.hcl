# What the module refuses, with the variable that is wrong.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_data "aws_vpc" {
    defaults = { cidr_block = "10.1.0.0/16" }
  }
}

variables {
  image    = "registry.example/tidelog:1.2.3"
  ami_id   = "ami-0aaaaaaaaaaaaaaaa"
  insecure = true
  voters = {
    eu-central-1a = { node_id = 1 }
    eu-central-1b = { node_id = 2 }
    eu-central-1c = { node_id = 3 }
  }
}

run "what_is_right_is_taken" {
  command = plan
}

run "public_without_tls" {
  command         = plan
  expect_failures = [var.public]

  variables {
    public             = true
    client_cidr_blocks = ["0.0.0.0/0"]
  }
}

run "no_tls_without_a_word" {
  command         = plan
  expect_failures = [var.voters, var.certificate_arn, var.gateway_tls_secret_arn, var.tokens_secret_arn]

  variables {
    insecure = false
  }
}

run "two_zones" {
  command         = plan
  expect_failures = [var.voters]

  variables {
    voters = {
      eu-central-1a = { node_id = 1 }
      eu-central-1b = { node_id = 2 }
    }
  }
}

run "a_number_twice" {
  command         = plan
  expect_failures = [var.voters]

  variables {
    voters = {
      eu-central-1a = { node_id = 1 }
      eu-central-1b = { node_id = 1 }
      eu-central-1c = { node_id = 3 }
    }
  }
}

run "fewer_gateways_than_zones" {
  command         = plan
  expect_failures = [var.gateways]

  variables {
    gateways = { min = 2 }
  }
}

run "an_image_that_changes_by_itself" {
  command         = plan
  expect_failures = [var.image]

  variables {
    image = "registry.example/tidelog:latest"
  }
}

run "operators_from_everywhere" {
  command         = plan
  expect_failures = [var.operator_cidr_blocks]

  variables {
    operator_cidr_blocks = ["0.0.0.0/0"]
  }
}

run "subnets_of_other_zones" {
  command         = plan
  expect_failures = [var.subnet_ids]

  variables {
    vpc_id     = "vpc-1"
    subnet_ids = { eu-central-1a = "subnet-a" }
  }
}

run "tokens_without_one_for_the_metrics" {
  command         = plan
  expect_failures = [var.metrics_token_secret_arn]

  variables {
    tokens_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:tokens"
  }
}

run "a_setting_that_is_none" {
  command         = plan
  expect_failures = [var.settings]

  variables {
    settings = { "flush.bytes" = "64MiB" }
  }
}
