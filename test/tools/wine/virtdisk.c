// virtdisk.dll for tests under Wine, whose own ends the process: enough for containerd's
// blockcim snapshotter with unformatted_scratch. The names are exported by virtdisk.def,
// as a header of Windows has them with other types.
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

// Create makes a file where the disk would be.
DWORD WINAPI Create(void *type, const WCHAR *path, ULONG access, void *sd, ULONG flags, ULONG provider,
		void *parameters, void *overlapped, HANDLE *disk) {
	(void)type, (void)access, (void)sd, (void)flags, (void)provider, (void)parameters, (void)overlapped;
	HANDLE file = CreateFileW(path, GENERIC_WRITE, 0, NULL, CREATE_NEW, 0, NULL);
	if (file == INVALID_HANDLE_VALUE) return GetLastError();
	DWORD n;
	*disk = file;
	return WriteFile(file, "vhdxfile", 8, &n, NULL) ? ERROR_SUCCESS : GetLastError();
}

DWORD WINAPI NotSupported(void) { return ERROR_NOT_SUPPORTED; }
