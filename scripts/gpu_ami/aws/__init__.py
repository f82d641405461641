"""The pipeline's gateway to AWS: typed queries and changes over boto3, which nothing else imports."""
