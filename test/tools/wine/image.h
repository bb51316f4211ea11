// An image that is being written, and the block file, which is
//
//   a header of 4096 bytes: "EMUCIM1 ", the state, and the hash once it is sealed
//   the line of each call, each followed by the content written after it
//
// so that the same calls give the same bytes, and a file is there from the first call on.
#ifndef IMAGE_H
#define IMAGE_H

#include "record.h"
#include <wincrypt.h>

enum { HEADER = 4096, HASH = 32, BUCKETS = 1 << 16 };
enum { OPEN, COMMITTED, SEALED };

// Flags of CimCreateImage2 and of CimAddFsToMergedImage2.
enum { CREATE_VERIFIED = 0x40, MERGE_VERIFIED = 0x4 };

struct header {
	char magic[8];
	UINT32 state;
	UINT32 unused;
	BYTE hash[HASH];
	WCHAR name[256];
};

static const char magic[8] = "EMUCIM1 ";

struct metadata {
	UINT32 attributes;
	INT64 size;
	INT64 created, written, changed, accessed;
	const void *sd;
	UINT32 sd_len;
	const void *reparse;
	UINT32 reparse_len;
	const void *ea;
	UINT32 ea_len;
};

enum kind { DIRECTORY, PLAIN, STREAM, TOMBSTONE, MERGE_LINK, SOURCE };

// entry is a path that an image has. key is the path in upper case.
struct entry {
	struct entry *next;
	WCHAR *key;
	enum kind kind;
};

struct image {
	WCHAR *block;
	HANDLE file;
	UINT32 flags;
	BOOL merged;
	struct stream *open;
	BOOL incomplete; // a stream was closed before its end
	struct entry *entries[BUCKETS];
};

struct stream {
	struct image *image;
	WCHAR *path;
	BOOL directory;
	INT64 size, written;
	HCRYPTHASH hash;
};

// --- hashes

static HCRYPTHASH hash_begin(void) {
	static HCRYPTPROV provider;
	HCRYPTHASH h;
	if (provider == 0 && !CryptAcquireContextW(&provider, NULL, NULL, PROV_RSA_AES, CRYPT_VERIFYCONTEXT)) abort();
	if (!CryptCreateHash(provider, CALG_SHA_256, 0, 0, &h)) abort();
	return h;
}

static void hash_add(HCRYPTHASH h, const void *p, DWORD len) {
	if (len > 0 && !CryptHashData(h, p, len, 0)) abort();
}

static void hash_end(HCRYPTHASH h, BYTE sum[HASH]) {
	DWORD len = HASH;
	if (!CryptGetHashParam(h, HP_HASHVAL, sum, &len, 0)) abort();
	CryptDestroyHash(h);
}

// hash_file is of all that comes after the header.
static void hash_file(HANDLE file, BYTE sum[HASH]) {
	enum { PART = 1 << 16 };
	BYTE *part = must(malloc(PART));
	HCRYPTHASH h = hash_begin();
	DWORD n;
	SetFilePointer(file, HEADER, NULL, FILE_BEGIN);
	while (ReadFile(file, part, PART, &n, NULL) && n > 0) hash_add(h, part, n);
	hash_end(h, sum);
	free(part);
}

// --- paths

static const HRESULT invalid = E_INVALIDARG;

static HRESULT win32(DWORD error) { return HRESULT_FROM_WIN32(error); }

static WCHAR *copied(const WCHAR *s) { return must(_wcsdup(s)); }

static WCHAR *upper(const WCHAR *path) {
	int len = (int)wcslen(path) + 1;
	WCHAR *key = must(malloc(len * sizeof *key));
	if (LCMapStringEx(LOCALE_NAME_INVARIANT, LCMAP_UPPERCASE, path, len, key, len, NULL, NULL, 0) == 0) abort();
	return key;
}

static struct entry **bucket(struct image *i, const WCHAR *key) {
	UINT32 h = 2166136261;
	for (; *key; key++) h = (h ^ *key) * 16777619;
	return &i->entries[h % BUCKETS];
}

static struct entry *find(struct image *i, const WCHAR *path) {
	WCHAR *key = upper(path);
	struct entry *e = *bucket(i, key);
	while (e != NULL && wcscmp(e->key, key) != 0) e = e->next;
	free(key);
	return e;
}

// well_formed reports whether path is relative, with one backslash between its parts.
static BOOL well_formed(const WCHAR *path) {
	if (path == NULL || *path == 0 || wcschr(path, L'/') != NULL) return FALSE;
	for (const WCHAR *part = path;; part++) {
		size_t len = wcscspn(part, L"\\");
		if (len == 0 || len > 255 || wcsncmp(part, L"..", len) == 0) return FALSE;
		part += len;
		if (*part == 0) return TRUE;
	}
}

// may_add says whether path is new and its directory is there.
static HRESULT may_add(struct image *i, const WCHAR *path) {
	if (!well_formed(path)) return invalid;
	if (find(i, path) != NULL) return win32(ERROR_ALREADY_EXISTS);
	const WCHAR *end = wcsrchr(path, L'\\');
	if (end == NULL) return S_OK;
	WCHAR *dir = copied(path);
	dir[end - path] = 0;
	struct entry *e = find(i, dir);
	free(dir);
	if (e == NULL) return win32(ERROR_PATH_NOT_FOUND);
	return e->kind == DIRECTORY ? S_OK : win32(ERROR_DIRECTORY);
}

static void add(struct image *i, const WCHAR *path, enum kind kind) {
	struct entry *e = must(calloc(1, sizeof *e));
	e->key = upper(path);
	e->kind = kind;
	struct entry **b = bucket(i, e->key);
	e->next = *b;
	*b = e;
}

// --- the block file

static HRESULT append(HANDLE file, const void *p, size_t len) {
	DWORD written;
	if (!WriteFile(file, p, (DWORD)len, &written, NULL)) return win32(GetLastError());
	return written == len ? S_OK : win32(ERROR_DISK_FULL);
}

static HRESULT read_header(HANDLE file, struct header *h) {
	DWORD n;
	SetFilePointer(file, 0, NULL, FILE_BEGIN);
	if (!ReadFile(file, h, sizeof *h, &n, NULL)) return win32(GetLastError());
	if (n != sizeof *h || memcmp(h->magic, magic, sizeof magic) != 0) return win32(ERROR_INVALID_DATA);
	return S_OK;
}

static HRESULT write_header(HANDLE file, const struct header *h) {
	BYTE page[HEADER] = {0};
	memcpy(page, h, sizeof *h);
	SetFilePointer(file, 0, NULL, FILE_BEGIN);
	return append(file, page, sizeof page);
}

static HANDLE open_block(const WCHAR *path, DWORD access) {
	return CreateFileW(path, access, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
}

#endif
