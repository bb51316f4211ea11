// Package rules has the tests of what test/tools/wine's cimwriter.dll refuses. They run
// under Wine, by package wine's TestRules.
package rules
