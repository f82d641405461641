# Every rule of the ruleset that tflint has built in: no plugin to fetch.
plugin "terraform" {
  enabled = true
  preset  = "all"
}
