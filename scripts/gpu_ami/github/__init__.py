"""What the workflows in .github/ need beside the tasks: the caller's files, summaries, one pull request, one issue.

`python -m gpu_ami.github COMMAND` is the entry point. It runs anywhere: the runner's
variables are its only tie to GitHub.
"""
