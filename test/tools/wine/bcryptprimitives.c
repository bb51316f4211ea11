// bcryptprimitives.dll: Go's runtime loads it before anything else. Wine has it since 9.0,
// Debian 12 has Wine 8. It also mends what else of Wine 8 stops Go's programs.
#define WIN32_LEAN_AND_MEAN
#define WIN32_NO_STATUS
#include <windows.h>
#include <winternl.h>
#undef WIN32_NO_STATUS
#include <ntstatus.h>
#include <string.h>

BOOLEAN NTAPI SystemFunction036(PVOID, ULONG); // RtlGenRandom, of advapi32

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE to, SIZE_T len) {
	while (len > 0) {
		ULONG part = len > 1 << 20 ? 1 << 20 : (ULONG)len;
		if (!SystemFunction036(to, part)) return FALSE;
		to += part;
		len -= part;
	}
	return TRUE;
}

typedef NTSTATUS(NTAPI *set_information)(HANDLE, IO_STATUS_BLOCK *, void *, ULONG, ULONG);

static set_information original;

// mended says of FileDispositionInformationEx what a Windows without it says. Wine 8 says
// STATUS_NOT_IMPLEMENTED, for which os.RemoveAll gives up instead of falling back.
static NTSTATUS NTAPI mended(HANDLE file, IO_STATUS_BLOCK *io, void *info, ULONG len, ULONG class) {
	NTSTATUS status = original(file, io, info, len, class);
	if (status == STATUS_NOT_IMPLEMENTED && class == 64) return STATUS_INVALID_INFO_CLASS;
	return status;
}

// thunk is how long Wine's system calls are. They hold no relative address, so that a copy
// does what the original does.
enum { thunk = 32 };

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, void *reserved) {
	(void)self, (void)reserved;
	if (reason != DLL_PROCESS_ATTACH) return TRUE;
	unsigned char jump[12] = {0x48, 0xb8, [10] = 0xff, 0xe0}; // mov $mended, %rax; jmp *%rax
	set_information to = mended;
	memcpy(jump + 2, &to, sizeof to);
	unsigned char *call = (unsigned char *)GetProcAddress(GetModuleHandleW(L"ntdll.dll"), "NtSetInformationFile");
	void *copy = VirtualAlloc(NULL, thunk, MEM_COMMIT, PAGE_EXECUTE_READWRITE);
	DWORD before;
	if (call == NULL || copy == NULL || !VirtualProtect(call, thunk, PAGE_EXECUTE_READWRITE, &before)) return FALSE;
	memcpy(copy, call, thunk);
	original = (set_information)copy;
	memcpy(call, jump, sizeof jump);
	return VirtualProtect(call, thunk, before, &before);
}
