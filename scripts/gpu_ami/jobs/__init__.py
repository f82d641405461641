"""The order of each task's work: a station after the other, from the settings to the result that tasks.py prints."""
