// offreg.dll for tests under Wine, which has none: what hcsshim calls to merge registry
// hives. A merged hive is "regf", "EMUHIVE1 ", and its parts, each with its length.
#include "record.h"

struct hive {
	struct text content;
};

static DWORD done(struct text *line, DWORD error) {
	number(line, "hr", error);
	record(line);
	return error;
}

// failed is the Windows error of a fault, 0 for none.
static DWORD failed(const char *function) { return (DWORD)fault(function) & 0xffff; }

#define API __declspec(dllexport) DWORD WINAPI

static DWORD load(const WCHAR *path, struct hive *h) {
	HANDLE file = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
	if (file == INVALID_HANDLE_VALUE) return GetLastError();
	char part[4096];
	DWORD n;
	while (ReadFile(file, part, sizeof part, &n, NULL) && n > 0) put(&h->content, part, n);
	CloseHandle(file);
	return h->content.len >= 4 && memcmp(h->content.at, "regf", 4) == 0 ? ERROR_SUCCESS : ERROR_BADDB;
}

API OROpenHive(const WCHAR *path, struct hive **hive) {
	struct text line = begin("OROpenHive");
	string(&line, "path", path);
	DWORD error = failed("OROpenHive");
	struct hive *h = must(calloc(1, sizeof *h));
	if (error == ERROR_SUCCESS) error = load(path, h);
	if (error == ERROR_SUCCESS) *hive = h;
	return done(&line, error);
}

API ORMergeHives(struct hive **hives, ULONG count, struct hive **merged) {
	struct text line = begin("ORMergeHives");
	number(&line, "count", count);
	DWORD error = failed("ORMergeHives");
	if (error == ERROR_SUCCESS && count < 2) error = ERROR_INVALID_PARAMETER;
	if (error == ERROR_SUCCESS) {
		struct hive *h = must(calloc(1, sizeof *h));
		putf(&h->content, "regfEMUHIVE1 ");
		for (ULONG i = 0; i < count; i++) {
			putf(&h->content, "%zu ", hives[i]->content.len);
			put(&h->content, hives[i]->content.at, hives[i]->content.len);
		}
		*merged = h;
	}
	return done(&line, error);
}

API ORSaveHive(struct hive *hive, const WCHAR *path, DWORD major, DWORD minor) {
	struct text line = begin("ORSaveHive");
	string(&line, "path", path);
	number(&line, "major", major);
	number(&line, "minor", minor);
	DWORD error = failed("ORSaveHive"), n;
	if (error != ERROR_SUCCESS) return done(&line, error);
	HANDLE file = CreateFileW(path, GENERIC_WRITE, 0, NULL, CREATE_NEW, 0, NULL);
	if (file == INVALID_HANDLE_VALUE) return done(&line, GetLastError());
	if (!WriteFile(file, hive->content.at, (DWORD)hive->content.len, &n, NULL)) error = GetLastError();
	CloseHandle(file);
	return done(&line, error);
}

API ORCloseHive(struct hive *hive) {
	struct text line = begin("ORCloseHive");
	free(hive->content.at);
	free(hive);
	return done(&line, failed("ORCloseHive"));
}
