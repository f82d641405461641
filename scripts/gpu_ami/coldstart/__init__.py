"""How long a cold start takes: one model, used by `invoke coldstart` and by `invoke cost`."""
