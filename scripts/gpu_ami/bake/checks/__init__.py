"""What `doctor` and `build` check before an instance is paid for: one module per topic, judging plain values."""
