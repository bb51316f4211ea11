// What the DLLs of this folder share: lines of JSON, where they are written, and faults.
//
//   CIMEMU_LOG    a file to which each call appends one line
//   CIMEMU_FAIL   FUNCTION:N=HRESULT, as CimWriteStream:7=0x80070070, makes the Nth call of
//                 FUNCTION in this process fail
//   CIMEMU_HANG   FUNCTION:N makes that call write the file named by CIMEMU_HUNG and not return
#ifndef RECORD_H
#define RECORD_H

#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline void *must(void *p) {
	if (p == NULL) abort();
	return p;
}

// text grows. Its end is not a 0.
struct text {
	char *at;
	size_t len, cap;
};

static inline void put(struct text *t, const void *from, size_t len) {
	if (len > t->cap - t->len) {
		t->cap = 2 * t->cap + len + 256;
		t->at = must(realloc(t->at, t->cap));
	}
	if (len > 0) memcpy(t->at + t->len, from, len);
	t->len += len;
}

static inline void putf(struct text *t, const char *format, ...) {
	char some[128]; // numbers and names only
	va_list args;
	va_start(args, format);
	int len = vsnprintf(some, sizeof some, format, args);
	va_end(args);
	if (len < 0 || len >= (int)sizeof some) abort();
	put(t, some, len);
}

// utf8 is w, or "" for NULL.
static inline char *utf8(const WCHAR *w) {
	if (w == NULL) w = L"";
	int len = WideCharToMultiByte(CP_UTF8, 0, w, -1, NULL, 0, NULL, NULL);
	char *s = must(malloc(len));
	WideCharToMultiByte(CP_UTF8, 0, w, -1, s, len, NULL, NULL);
	return s;
}

// begin opens the object of a call.
static inline struct text begin(const char *function) {
	struct text line = {0};
	putf(&line, "{\"fn\":\"%s\"", function);
	return line;
}

static inline void string(struct text *line, const char *key, const WCHAR *value) {
	char *s = utf8(value);
	putf(line, ",\"%s\":\"", key);
	for (const char *c = s; *c; c++) {
		if (*c == '"' || *c == '\\') putf(line, "\\%c", *c);
		else if ((unsigned char)*c < 0x20) putf(line, "\\u%04x", *c);
		else put(line, c, 1);
	}
	put(line, "\"", 1);
	free(s);
}

static inline void number(struct text *line, const char *key, long long value) {
	putf(line, ",\"%s\":%lld", key, value);
}

static inline void hex(struct text *line, const char *key, const void *value, size_t len) {
	putf(line, ",\"%s\":\"", key);
	for (size_t i = 0; i < len; i++) putf(line, "%02x", ((const unsigned char *)value)[i]);
	put(line, "\"", 1);
}

// env is the value of a variable, NULL when it has none.
static inline WCHAR *env(const WCHAR *name) {
	DWORD size = GetEnvironmentVariableW(name, NULL, 0);
	if (size == 0) return NULL;
	WCHAR *value = must(malloc(size * sizeof *value));
	if (GetEnvironmentVariableW(name, value, size) >= size) abort();
	return value;
}

// record ends the line, appends it to the log, and frees it. One write: the lines of two
// DLLs do not mix.
static inline void record(struct text *line) {
	put(line, "}\n", 2);
	WCHAR *log = env(L"CIMEMU_LOG");
	if (log != NULL) {
		HANDLE file = CreateFileW(log, FILE_APPEND_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_ALWAYS, 0, NULL);
		DWORD written;
		if (file == INVALID_HANDLE_VALUE || !WriteFile(file, line->at, (DWORD)line->len, &written, NULL)) abort();
		CloseHandle(file);
	}
	free(log);
	free(line->at);
}

// named reports whether variable asks for this call of function, of which it is the nth,
// and where in the value the rest begins.
static inline BOOL named(const WCHAR *variable, const char *function, int nth, char *rest, size_t size) {
	WCHAR *value = env(variable);
	char *s = utf8(value), asked[64];
	int n = 0, at = 0;
	BOOL yes = sscanf(s, "%63[^:]:%d%n", asked, &n, &at) == 2 && n == nth && strcmp(asked, function) == 0;
	if (yes) snprintf(rest, size, "%s", s + at);
	free(s);
	free(value);
	return yes;
}

// fault counts the calls of function and is what this one shall return instead, or S_OK.
static inline HRESULT fault(const char *function) {
	static struct { const char *function; int calls; } counts[64];
	static SRWLOCK lock = SRWLOCK_INIT;
	AcquireSRWLockExclusive(&lock);
	int i = 0;
	while (counts[i].function != NULL && strcmp(counts[i].function, function) != 0) i++;
	counts[i].function = function;
	int nth = ++counts[i].calls;
	ReleaseSRWLockExclusive(&lock);
	char rest[32];
	if (named(L"CIMEMU_HANG", function, nth, rest, sizeof rest)) {
		WCHAR *hung = env(L"CIMEMU_HUNG");
		if (hung != NULL) CloseHandle(CreateFileW(hung, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL));
		Sleep(INFINITE);
	}
	if (named(L"CIMEMU_FAIL", function, nth, rest, sizeof rest) && rest[0] == '=')
		return (HRESULT)strtoul(rest + 1, NULL, 0);
	return S_OK;
}

#endif
