// Package console serves the pool's HTTP API, its web page and its triggers.
//
// It is empty so far: today `lithify jobs` and `lithify workers` show the pool.
package console
