# The key that signs the provenance of AMIs: a build signs, whoever looks verifies. Nobody but KMS has its private half.

locals {
  has_signing_key = var.make_signing_key || var.signing_key_arn != null
  signing_key_arn = var.make_signing_key ? one(aws_kms_key.signing[*].arn) : var.signing_key_arn
}

resource "aws_kms_key" "signing" {
  count = var.make_signing_key ? 1 : 0

  description              = "Signs the provenance of the AMIs of ${var.family}"
  key_usage                = "SIGN_VERIFY"
  customer_master_key_spec = "ECC_NIST_P256"
  # Without it nothing that it has signed can be verified by KMS any more: the longest time to think better of it.
  deletion_window_in_days = 30

  tags = { (local.pipeline_tag) = local.pipeline }
}

resource "aws_kms_alias" "signing" {
  count = var.make_signing_key ? 1 : 0

  name          = "alias/${var.family}-provenance"
  target_key_id = aws_kms_key.signing[0].key_id
}
