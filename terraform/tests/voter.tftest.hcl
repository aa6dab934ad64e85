# A voter outlives new AMIs and new user data. Its volume is given to it, so that this can be made and taken down again.

mock_provider "aws" {}

variables {
  name                 = "t-voter-eu-central-1a"
  ami_id               = "ami-0aaaaaaaaaaaaaaaa"
  instance_type        = "m7g.large"
  instance_profile     = "t-voter-eu-central-1a"
  subnet_id            = "subnet-1"
  private_ip           = "10.42.0.10"
  security_group_ids   = ["sg-1"]
  volume_id            = "vol-1"
  termination_disabled = true
  user_data            = "first"
}

run "made" {
  module {
    source = "./modules/voter"
  }

  assert {
    condition     = aws_instance.this.ami == "ami-0aaaaaaaaaaaaaaaa" && aws_volume_attachment.wal.stop_instance_before_detaching
    error_message = "the volume is never pulled from a running machine"
  }

  assert {
    condition     = aws_instance.this.metadata_options[0].http_tokens == "required" && aws_instance.this.maintenance_options[0].auto_recovery == "default"
    error_message = "version 2 of the metadata service alone, and recovery by itself"
  }
}

run "a_new_ami_changes_no_voter" {
  command = plan

  module {
    source = "./modules/voter"
  }

  variables {
    ami_id    = "ami-0bbbbbbbbbbbbbbbb"
    user_data = "second"
  }

  # An id that is known is one that stays: a machine that is to be replaced has none yet.
  assert {
    condition     = aws_instance.this.id == run.made.instance_id && aws_instance.this.ami == "ami-0aaaaaaaaaaaaaaaa"
    error_message = "the machine stays, with the AMI that it has"
  }

  assert {
    condition     = aws_volume_attachment.wal.instance_id == run.made.instance_id && one(aws_network_interface.this.private_ips) == "10.42.0.10"
    error_message = "its volume and its address stay with it"
  }
}
