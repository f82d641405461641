"""Records that capabilities exchange: tags, the manifest, the release record, receipts."""
