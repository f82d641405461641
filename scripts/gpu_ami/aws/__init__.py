"""The one door to AWS; nothing else in the pipeline imports boto3."""
