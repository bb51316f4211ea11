# Makes block CIMs of a real image twice on a real Windows, compares them, mounts them where
# that can be, and collects samples in a directory to send to the project.
#
# NEVER RUN BY THIS PROJECT: it has no Windows. Under Wine neither PowerShell nor CimFS run.
#
#   .\windows-real.ps1 -Lithify .\lithify.exe [-Image REF] [-Out DIR]
#
# It takes an elevated PowerShell; zstd in PATH; build 26100 or later with Microsoft's cimwriter.dll in
# System32 or beside lithify.exe, or 27800 or later; and 27800 or later to mount. The samples
# hold the first and last bytes of blocks, root hashes, versions and digests, and no file of the image.
param(
    [Parameter(Mandatory)] [string] $Lithify,
    [string] $Image = 'mcr.microsoft.com/windows/nanoserver:ltsc2025',
    [string] $Out = (Join-Path $PWD 'lithify-samples')
)
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

# How a block begins and ends is what is not public; 1 MiB holds its header and tables.
$sample = 1MB

$work = Join-Path ([IO.Path]::GetTempPath()) ('lithify-real-' + [guid]::NewGuid())
New-Item -ItemType Directory $work, $Out -Force | Out-Null

function Invoke-Lithify {
    & $Lithify @args
    if ($LASTEXITCODE -ne 0) { throw "lithify $args ended with $LASTEXITCODE" }
}

# Save-Part copies bytes of a file that may be larger than memory.
function Save-Part([string] $From, [string] $To, [long] $Offset, [long] $Length) {
    $in = [IO.File]::OpenRead($From)
    try {
        $buffer = [byte[]]::new([Math]::Min($Length, $in.Length - $Offset))
        $null = $in.Seek($Offset, 'Begin')
        $read = 0
        while ($read -lt $buffer.Length) {
            $n = $in.Read($buffer, $read, $buffer.Length - $read)
            if ($n -eq 0) { throw "$From ends early" }
            $read += $n
        }
        [IO.File]::WriteAllBytes($To, $buffer)
    } finally { $in.Dispose() }
}

# Get-Blob is the path of a blob of an OCI layout.
function Get-Blob([string] $Layout, [string] $Digest) { Join-Path $Layout ('blobs\' + $Digest.Replace(':', '\')) }

# Get-Variant is the manifest of block CIMs in a layout.
function Get-Variant([string] $Layout) {
    $index = Get-Content -Raw (Join-Path $Layout 'index.json') | ConvertFrom-Json
    $index = Get-Content -Raw (Get-Blob $Layout $index.manifests[0].digest) | ConvertFrom-Json
    foreach ($m in $index.manifests) {
        $features = if ($m.platform.PSObject.Properties['os.features']) { $m.platform.'os.features' } else { @() }
        if ($features -contains 'blockcim') { return Get-Content -Raw (Get-Blob $Layout $m.digest) | ConvertFrom-Json }
    }
    throw "$Layout has no variant of block CIMs"
}

# Mount-Block mounts a sealed block, lists it, and dismounts it.
function Mount-Block([string] $Block, [string] $RootHash, [string] $List) {
    Add-Type -Namespace Lithify -Name CimFS -MemberDefinition @'
[DllImport("cimfs.dll", CharSet = CharSet.Unicode)]
public static extern int CimMountVerifiedImage(string image, string name, uint flags, ref Guid volume, ushort size, byte[] hash);
[DllImport("cimfs.dll")]
public static extern int CimDismountImage(ref Guid volume);
'@
    $hash = [byte[]] ($RootHash -split '(..)' -ne '' | ForEach-Object { [Convert]::ToByte($_, 16) })
    $volume = [guid]::NewGuid()
    $singleFile = 0x20
    $hr = [Lithify.CimFS]::CimMountVerifiedImage($Block, 'layer.cim', $singleFile, [ref] $volume, $hash.Length, $hash)
    if ($hr -ne 0) { throw ('CimMountVerifiedImage: 0x{0:x8}' -f $hr) }
    try {
        cmd /c dir /s /a "\\?\Volume{$volume}\" | Out-File $List
    } finally {
        $hr = [Lithify.CimFS]::CimDismountImage([ref] $volume)
        if ($hr -ne 0) { throw ('CimDismountImage: 0x{0:x8}' -f $hr) }
    }
}

try {
    & $Lithify doctor --for blockcim --containerd '' -o json | Out-File (Join-Path $Out 'doctor.json')
    if ($LASTEXITCODE -ne 0) { throw "this Windows writes no block CIMs: $Out\doctor.json says why" }
    $doctor = Get-Content -Raw (Join-Path $Out 'doctor.json') | ConvertFrom-Json
    $mounts = ($doctor.facts | Where-Object name -eq 'blockcim-mount').ok

    $made = foreach ($run in 'first', 'second') {
        $layout = Join-Path $work $run
        Write-Host "$run conversion of $Image"
        Invoke-Lithify convert --blockcim --platform windows/amd64 $Image "oci:${layout}:made" | Out-Host
        $variant = Get-Variant $layout
        $variant | ConvertTo-Json -Depth 10 | Out-File (Join-Path $Out "manifest-$run.json")
        , $variant.layers
    }
    $same = $true
    for ($i = 0; $i -lt $made[0].Count; $i++) {
        $a, $b = $made[0][$i], $made[1][$i]
        if ($a.digest -ne $b.digest) {
            $same = $false
            Write-Warning "layer ${i}: $($a.digest), the second time $($b.digest)"
        }
        $block = Join-Path $work "layer-$i.vhd"
        & zstd -q -d -o $block (Get-Blob (Join-Path $work 'first') $a.digest)
        if ($LASTEXITCODE -ne 0) { throw "zstd ended with $LASTEXITCODE" }
        $length = (Get-Item $block).Length
        Save-Part $block (Join-Path $Out "layer-$i.head") 0 $sample
        Save-Part $block (Join-Path $Out "layer-$i.tail") ([Math]::Max(0, $length - $sample)) $sample
        if ($mounts) {
            Mount-Block $block $a.annotations.'io.github.lithify.blockcim.root-hash' (Join-Path $Out "layer-$i.list")
        }
    }
    Write-Host "the same bytes twice: $same; mounted: $mounts; samples: $Out"
    if (-not $same) { exit 1 }
} finally {
    Remove-Item -Recurse -Force $work
}
