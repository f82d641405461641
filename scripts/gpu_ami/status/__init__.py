"""What is live, beside what was handed over."""
