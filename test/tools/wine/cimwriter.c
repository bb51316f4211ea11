// cimwriter.dll for tests under Wine. What it writes is no CIM: no one knows the format of
// block CIMs but Microsoft. It holds callers to the rules of the API and writes down what it
// was told, once as lines (see record.h) and once as the block file, which is
//
//   a header of 4096 bytes: "EMUCIM1 ", the state, and the hash once it is sealed
//   the line of each call, each followed by the content written after it
//
// so that the same calls give the same bytes, and a file is there from the first call on.
#include "record.h"
#include <stddef.h>
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
	WCHAR name[256];
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
	static _Thread_local BYTE part[1 << 16];
	HCRYPTHASH h = hash_begin();
	DWORD n;
	SetFilePointer(file, HEADER, NULL, FILE_BEGIN);
	while (ReadFile(file, part, sizeof part, &n, NULL) && n > 0) hash_add(h, part, n);
	hash_end(h, sum);
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

// done ends a call: its line goes to the image, if it went well and there is one, and with
// its result to the log.
static HRESULT done(struct image *i, struct text *line, HRESULT hr) {
	if (SUCCEEDED(hr) && i != NULL) {
		size_t len = line->len;
		put(line, "}\n", 2);
		hr = append(i->file, line->at, line->len);
		line->len = len;
	}
	number(line, "hr", (UINT32)hr);
	record(line);
	return hr;
}

#define API __declspec(dllexport) HRESULT WINAPI

API CimCreateImage2(const WCHAR *block, UINT32 flags, const WCHAR *old, const WCHAR *new, struct image **image) {
	struct text line = begin("CimCreateImage2");
	string(&line, "block", block);
	number(&line, "flags", flags);
	string(&line, "old", old);
	string(&line, "new", new);
	HRESULT hr = fault("CimCreateImage2");
	if (SUCCEEDED(hr) && (old != NULL || new == NULL || !well_formed(new))) hr = invalid;
	HANDLE file = INVALID_HANDLE_VALUE;
	if (SUCCEEDED(hr)) {
		file = CreateFileW(block, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ, NULL, CREATE_NEW, 0, NULL);
		if (file == INVALID_HANDLE_VALUE) hr = win32(GetLastError());
	}
	if (SUCCEEDED(hr)) {
		struct image *i = must(calloc(1, sizeof *i));
		i->block = copied(block);
		i->file = file;
		i->flags = flags;
		wcscpy(i->name, new);
		struct header h = {.state = OPEN};
		memcpy(h.magic, magic, sizeof magic);
		wcscpy(h.name, new);
		hr = write_header(file, &h);
		// Where the file lies is not part of it.
		struct text self = begin("CimCreateImage2");
		number(&self, "flags", flags);
		string(&self, "new", new);
		put(&self, "}\n", 2);
		if (SUCCEEDED(hr)) hr = append(file, self.at, self.len);
		free(self.at);
		*image = i;
	}
	return done(NULL, &line, hr);
}

API CimCreateImage(const WCHAR *dir, const WCHAR *old, const WCHAR *new, struct image **image) {
	(void)dir, (void)old, (void)new, (void)image;
	struct text line = begin("CimCreateImage");
	return done(NULL, &line, E_NOTIMPL);
}

static struct stream *open_stream(struct image *i, const WCHAR *path, INT64 size, BOOL directory) {
	struct stream *s = must(calloc(1, sizeof *s));
	s->image = i;
	s->path = copied(path);
	s->size = size;
	s->directory = directory;
	s->hash = hash_begin();
	i->open = s;
	return s;
}

// busy says whether i cannot take another entry now.
static HRESULT busy(struct image *i) {
	if (i->open != NULL) return win32(ERROR_BUSY);
	return i->merged ? invalid : S_OK;
}

API CimCreateFile(struct image *i, const WCHAR *path, const struct metadata *m, struct stream **stream) {
	struct text line = begin("CimCreateFile");
	string(&line, "path", path);
	number(&line, "attr", m->attributes);
	number(&line, "size", m->size);
	number(&line, "ctime", m->created);
	number(&line, "mtime", m->written);
	number(&line, "chtime", m->changed);
	number(&line, "atime", m->accessed);
	hex(&line, "sd", m->sd, m->sd_len);
	hex(&line, "reparse", m->reparse, m->reparse_len);
	hex(&line, "ea", m->ea, m->ea_len);
	BOOL directory = (m->attributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
	BOOL reparse = (m->attributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0;
	HRESULT hr = fault("CimCreateFile");
	if (SUCCEEDED(hr)) hr = busy(i);
	if (SUCCEEDED(hr)) hr = may_add(i, path);
	if (SUCCEEDED(hr)) {
		BOOL sound = wcschr(path, L':') == NULL && m->sd_len > 0 && m->size >= 0 &&
			(!directory || m->size == 0) && reparse == (m->reparse_len > 0);
		hr = sound ? S_OK : invalid;
	}
	hr = done(i, &line, hr);
	if (SUCCEEDED(hr)) {
		add(i, path, directory ? DIRECTORY : PLAIN);
		*stream = open_stream(i, path, m->size, directory);
	}
	return hr;
}

API CimCreateAlternateStream(struct image *i, const WCHAR *path, UINT64 size, struct stream **stream) {
	struct text line = begin("CimCreateAlternateStream");
	string(&line, "path", path);
	number(&line, "size", size);
	HRESULT hr = fault("CimCreateAlternateStream");
	if (SUCCEEDED(hr)) hr = busy(i);
	if (SUCCEEDED(hr)) hr = may_add(i, path);
	if (SUCCEEDED(hr)) {
		WCHAR *file = copied(path), *colon = wcschr(file, L':');
		if (colon == NULL) hr = invalid;
		else {
			*colon = 0;
			if (find(i, file) == NULL) hr = win32(ERROR_FILE_NOT_FOUND);
		}
		free(file);
	}
	hr = done(i, &line, hr);
	if (SUCCEEDED(hr)) {
		add(i, path, STREAM);
		*stream = open_stream(i, path, size, FALSE);
	}
	return hr;
}

// CimWriteStream is in the log when it fails only. A fault has half of the bytes written, as
// a disk that became full.
API CimWriteStream(struct stream *s, const void *p, UINT32 len) {
	HRESULT hr = fault("CimWriteStream");
	if (FAILED(hr)) append(s->image->file, p, len / 2);
	else if (s->directory || len > s->size - s->written) hr = win32(ERROR_HANDLE_EOF);
	else hr = append(s->image->file, p, len);
	if (SUCCEEDED(hr)) {
		hash_add(s->hash, p, len);
		s->written += len;
		return hr;
	}
	struct text line = begin("CimWriteStream");
	string(&line, "path", s->path);
	number(&line, "len", len);
	return done(NULL, &line, hr);
}

__declspec(dllexport) void WINAPI CimCloseStream(struct stream *s) {
	fault("CimCloseStream"); // it can hang
	struct text line = begin("CimCloseStream");
	BYTE sum[HASH];
	hash_end(s->hash, sum);
	string(&line, "path", s->path);
	number(&line, "written", s->written);
	hex(&line, "sha256", sum, s->directory ? 0 : HASH);
	record(&line);
	if (s->written != s->size) s->image->incomplete = TRUE;
	s->image->open = NULL;
	free(s->path);
	free(s);
}

API CimDeletePath(struct image *i, const WCHAR *path) {
	(void)i;
	struct text line = begin("CimDeletePath");
	string(&line, "path", path);
	return done(NULL, &line, E_NOTIMPL);
}

// link_ adds new, of a kind. It is not checked here what it links to.
static HRESULT link_(const char *function, struct image *i, const WCHAR *new, const WCHAR *old, enum kind kind, HRESULT hr) {
	struct text line = begin(function);
	string(&line, "new", new);
	string(&line, "old", old);
	HRESULT failed = fault(function);
	if (FAILED(failed)) hr = failed;
	if (SUCCEEDED(hr)) hr = busy(i);
	if (SUCCEEDED(hr)) hr = may_add(i, new);
	hr = done(i, &line, hr);
	if (SUCCEEDED(hr)) add(i, new, kind);
	return hr;
}

API CimCreateHardLink(struct image *i, const WCHAR *new, const WCHAR *old) {
	struct entry *target = find(i, old);
	BOOL file = target != NULL && (target->kind == PLAIN || target->kind == MERGE_LINK);
	return link_("CimCreateHardLink", i, new, old, PLAIN, file ? S_OK : win32(ERROR_FILE_NOT_FOUND));
}

API CimCreateMergeLink(struct image *i, const WCHAR *new, const WCHAR *old) {
	return link_("CimCreateMergeLink", i, new, old, MERGE_LINK, well_formed(old) ? S_OK : invalid);
}

API CimTombstoneFile(struct image *i, const WCHAR *path) {
	struct text line = begin("CimTombstoneFile");
	string(&line, "path", path);
	HRESULT hr = fault("CimTombstoneFile");
	if (SUCCEEDED(hr)) hr = busy(i);
	if (SUCCEEDED(hr)) hr = may_add(i, path);
	hr = done(i, &line, hr);
	if (SUCCEEDED(hr)) add(i, path, TOMBSTONE);
	return hr;
}

// source checks that path, BLOCK\NAME, is a finished image, sealed where it must be, and
// writes to the merged image what it is.
static HRESULT source(struct image *i, const WCHAR *path, UINT32 flags) {
	WCHAR *block = copied(path), *name = wcsrchr(block, L'\\');
	if (name == NULL) return invalid;
	*name++ = 0;
	HANDLE file = open_block(block, GENERIC_READ);
	if (file == INVALID_HANDLE_VALUE) return win32(GetLastError());
	struct header h;
	BYTE sum[HASH];
	HRESULT hr = read_header(file, &h);
	if (SUCCEEDED(hr) && wcscmp(h.name, name) != 0) hr = win32(ERROR_FILE_NOT_FOUND);
	if (SUCCEEDED(hr) && h.state < ((flags & MERGE_VERIFIED) ? SEALED : COMMITTED)) hr = win32(ERROR_INVALID_DATA);
	if (SUCCEEDED(hr)) hash_file(file, sum);
	CloseHandle(file);
	if (FAILED(hr)) return hr;
	struct text line = begin("CimAddFsToMergedImage2");
	string(&line, "name", name);
	hex(&line, "hash", sum, sizeof sum);
	put(&line, "}\n", 2);
	hr = append(i->file, line.at, line.len);
	free(line.at);
	free(block);
	return hr;
}

API CimAddFsToMergedImage2(struct image *i, const WCHAR *path, UINT32 flags) {
	struct text line = begin("CimAddFsToMergedImage2");
	string(&line, "path", path);
	number(&line, "flags", flags);
	HRESULT hr = fault("CimAddFsToMergedImage2");
	if (SUCCEEDED(hr) && ((flags & MERGE_VERIFIED) != 0) != ((i->flags & CREATE_VERIFIED) != 0)) hr = invalid;
	if (SUCCEEDED(hr) && find(i, path) != NULL) hr = win32(ERROR_ALREADY_EXISTS);
	if (SUCCEEDED(hr)) hr = source(i, path, flags);
	if (SUCCEEDED(hr)) {
		i->merged = TRUE;
		add(i, path, SOURCE);
	}
	return done(NULL, &line, hr);
}

API CimAddFsToMergedImage(struct image *i, const WCHAR *path) {
	return CimAddFsToMergedImage2(i, path, 0);
}

API CimCommitImage(struct image *i) {
	struct text line = begin("CimCommitImage");
	string(&line, "block", i->block);
	HRESULT hr = fault("CimCommitImage");
	if (SUCCEEDED(hr) && (i->open != NULL || i->incomplete)) hr = win32(ERROR_INVALID_DATA);
	struct header h;
	if (SUCCEEDED(hr)) hr = read_header(i->file, &h);
	if (SUCCEEDED(hr)) {
		h.state = COMMITTED;
		hr = write_header(i->file, &h);
	}
	return done(NULL, &line, hr);
}

__declspec(dllexport) void WINAPI CimCloseImage(struct image *i) {
	fault("CimCloseImage"); // it can hang
	struct text line = begin("CimCloseImage");
	string(&line, "block", i->block);
	record(&line);
	for (int b = 0; b < BUCKETS; b++) {
		for (struct entry *e = i->entries[b], *next; e != NULL; e = next) {
			next = e->next;
			free(e->key);
			free(e);
		}
	}
	CloseHandle(i->file);
	free(i->block);
	free(i);
}

API CimSealImage(const WCHAR *block, UINT64 *hash_size, UINT64 *header_size, BYTE *hash) {
	struct text line = begin("CimSealImage");
	string(&line, "block", block);
	struct header h = {0};
	HRESULT hr = fault("CimSealImage");
	HANDLE file = open_block(block, GENERIC_READ | GENERIC_WRITE);
	if (SUCCEEDED(hr) && file == INVALID_HANDLE_VALUE) hr = win32(GetLastError());
	if (SUCCEEDED(hr)) hr = read_header(file, &h);
	if (SUCCEEDED(hr) && h.state != COMMITTED) hr = win32(ERROR_INVALID_DATA);
	if (SUCCEEDED(hr)) {
		h.state = SEALED;
		hash_file(file, h.hash);
		hr = write_header(file, &h);
	}
	if (file != INVALID_HANDLE_VALUE) CloseHandle(file);
	if (SUCCEEDED(hr)) {
		*hash_size = HASH;
		*header_size = HEADER;
		memcpy(hash, h.hash, HASH);
	}
	hex(&line, "hash", h.hash, SUCCEEDED(hr) ? HASH : 0);
	return done(NULL, &line, hr);
}

API CimGetVerificationInformation(const WCHAR *block, UINT32 *sealed, UINT64 *hash_size, UINT64 *signature_size,
		UINT64 *header_size, BYTE *hash, BYTE *signature) {
	(void)signature;
	struct text line = begin("CimGetVerificationInformation");
	string(&line, "block", block);
	struct header h = {0};
	HRESULT hr = fault("CimGetVerificationInformation");
	HANDLE file = open_block(block, GENERIC_READ);
	if (SUCCEEDED(hr) && file == INVALID_HANDLE_VALUE) hr = win32(GetLastError());
	if (SUCCEEDED(hr)) hr = read_header(file, &h);
	if (file != INVALID_HANDLE_VALUE) CloseHandle(file);
	if (SUCCEEDED(hr)) {
		*sealed = h.state == SEALED;
		*hash_size = HASH;
		*signature_size = 0;
		*header_size = HEADER;
		memcpy(hash, h.hash, HASH);
	}
	number(&line, "sealed", h.state == SEALED);
	return done(NULL, &line, hr);
}

API CimGetVerificationInformation2(void) {
	struct text line = begin("CimGetVerificationInformation2");
	return done(NULL, &line, E_NOTIMPL);
}

API CimQueryBlockInfo(void) {
	struct text line = begin("CimQueryBlockInfo");
	return done(NULL, &line, E_NOTIMPL);
}
