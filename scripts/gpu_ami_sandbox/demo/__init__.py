"""The demo account: what a newcomer sees, and what tests change."""
