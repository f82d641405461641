# The entry point on Windows: runs the pipeline's tasks, which do everything. .\scripts\build-ami.ps1 -Action help lists them.
#
#   .\scripts\build-ami.ps1 -Action init                 first time: the tools, then Packer's variables
#   .\scripts\build-ami.ps1 -Action validate
#   .\scripts\build-ami.ps1 -Action build -Debug         Packer stops at each step
#   .\scripts\build-ami.ps1 -Action cleanup --older-than 30d
#
# What follows goes to the task as it is. The exit code is the task's own; README.md lists them.
# A plain script on purpose: the attributes of an advanced one would keep -Debug for PowerShell itself.
param(
    [string] $Action = 'help',
    [switch] $Debug
)

# Each native command is checked by hand, the same in every PowerShell.
$PSNativeCommandUseErrorActionPreference = $false

# Actions that are more than the task of their name, and what they run in order. Every other action is a task.
$Actions = @{
    'init' = @('setup', 'init')
}

$Flags = $args
if ($Debug) { $Flags = @('--debug') + $Flags }

if ($Debug -and $Action -ne 'build') {
    [Console]::Error.WriteLine("error: -Debug is for -Action build, not for '$Action': leave it out.")
    exit 2
}

# uv on its own, or the one that pip put into a Python.
$Runner = $null
if (Get-Command 'uv' -CommandType Application -ErrorAction SilentlyContinue) {
    $Runner = @('uv')
}
else {
    foreach ($Python in @('py', 'python', 'python3')) {
        if (-not (Get-Command $Python -CommandType Application -ErrorAction SilentlyContinue)) { continue }
        & $Python -m uv --version | Out-Null
        if ($LASTEXITCODE -eq 0) {
            $Runner = @($Python, '-m', 'uv')
            break
        }
    }
}
if ($null -eq $Runner) {
    [Console]::Error.WriteLine('error: neither uv nor a Python that has it was found: install Python 3.10 or newer, then run pip install uv.')
    exit 3
}

$Program = $Runner[0]
if ($Action -eq 'help') { $Tasks = @('--list') }
elseif ($Actions.ContainsKey($Action)) { $Tasks = $Actions[$Action] }
else { $Tasks = @($Action) }
$Words = @($Runner | Select-Object -Skip 1) + @('run', 'invoke') + $Tasks + $Flags
$Code = 1
Push-Location -LiteralPath (Split-Path -Parent $PSScriptRoot)
try {
    & $Program @Words
    $Code = $LASTEXITCODE
}
finally {
    Pop-Location
}
exit $Code
