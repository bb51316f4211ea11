// Package test holds what is said about the whole house and about no room of
// it. floors_test.go is the table of who may import and link what; the folders
// are the lanes of the Makefile: e2e, bench, corpus, tools.
package test
