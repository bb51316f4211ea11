// cimwriter.dll for tests under Wine. What it writes is no CIM: no one knows the format of
// block CIMs but Microsoft. It holds callers to the rules of the API and writes down what it
// was told, once as lines (see record.h) and once as the block file (see image.h).
#include "image.h"

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
		if (FAILED(hr)) CloseHandle(file);
	}
	if (SUCCEEDED(hr)) {
		struct image *i = must(calloc(1, sizeof *i));
		i->block = copied(block);
		i->file = file;
		i->flags = flags;
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

// add_link adds new, of a kind. It is not checked here what it links to.
static HRESULT add_link(const char *function, struct image *i, const WCHAR *new, const WCHAR *old, enum kind kind, HRESULT hr) {
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
	return add_link("CimCreateHardLink", i, new, old, PLAIN, file ? S_OK : win32(ERROR_FILE_NOT_FOUND));
}

API CimCreateMergeLink(struct image *i, const WCHAR *new, const WCHAR *old) {
	return add_link("CimCreateMergeLink", i, new, old, MERGE_LINK, well_formed(old) ? S_OK : invalid);
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
	HANDLE file = INVALID_HANDLE_VALUE;
	HRESULT hr = name != NULL ? S_OK : invalid;
	if (SUCCEEDED(hr)) {
		*name++ = 0;
		file = open_block(block, GENERIC_READ);
		if (file == INVALID_HANDLE_VALUE) hr = win32(GetLastError());
	}
	struct header h;
	BYTE sum[HASH];
	if (SUCCEEDED(hr)) hr = read_header(file, &h);
	if (SUCCEEDED(hr) && wcscmp(h.name, name) != 0) hr = win32(ERROR_FILE_NOT_FOUND);
	if (SUCCEEDED(hr) && h.state < ((flags & MERGE_VERIFIED) ? SEALED : COMMITTED)) hr = win32(ERROR_INVALID_DATA);
	if (SUCCEEDED(hr)) hash_file(file, sum);
	if (file != INVALID_HANDLE_VALUE) CloseHandle(file);
	if (SUCCEEDED(hr)) {
		struct text line = begin("CimAddFsToMergedImage2");
		string(&line, "name", name);
		hex(&line, "hash", sum, sizeof sum);
		put(&line, "}\n", 2);
		hr = append(i->file, line.at, line.len);
		free(line.at);
	}
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
