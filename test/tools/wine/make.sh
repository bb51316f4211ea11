#!/bin/bash
# Makes in a new folder what test/wine needs: the DLLs of this folder, and a Wine prefix of
# Windows build 26100 that has those of them that belong into system32.
#
#   make.sh FOLDER
set -euo pipefail
to=$(realpath -m "$1")
cd "$(dirname "$0")"
mkdir -p "$to"

# dll NAME FLAG...
dll() { x86_64-w64-mingw32-gcc -std=gnu11 -Wall -Wextra -Werror -O2 -shared -s -static-libgcc -o "$to/$1.dll" "$1.c" "${@:2}"; }
x86_64-w64-mingw32-windres cimwriter.rc "$to/cimwriter.o"
dll cimwriter "$to/cimwriter.o" -ladvapi32
dll offreg
dll virtdisk virtdisk.def
dll bcryptprimitives -ladvapi32
rm "$to/cimwriter.o"

export WINEPREFIX=$to/prefix WINEARCH=win64 WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml,winemenubuilder.exe="
wine wineboot --init
wine winecfg -v win10
wine regedit /S windows.reg
wineserver --kill
wineserver --wait

# Wine's own DLLs are links in place of 600 MB of copies.
wine=(/usr/lib/*/wine/x86_64-windows)
cp -sf "${wine[0]}"/*.* "$WINEPREFIX/drive_c/windows/system32/"
rm -rf "$WINEPREFIX"/drive_c/windows/{winsxs,resources}
for d in offreg virtdisk bcryptprimitives; do ln -f "$to/$d.dll" "$WINEPREFIX/drive_c/windows/system32/"; done
