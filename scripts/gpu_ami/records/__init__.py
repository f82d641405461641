"""What capabilities hand each other: tags, the manifest, the release record, receipts."""
