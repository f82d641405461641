"""The accounts over which one clean-up plans: which there are, who can be entered, which regions each has."""
