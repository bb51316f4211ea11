package main

import (
	restorejob "github.com/lithify/lithify/jobs/restore"
	"github.com/lithify/lithify/restore"
	"github.com/lithify/lithify/restore/health"
	"github.com/spf13/pflag"
)

// checkFlags say when a restored container is healthy.
type checkFlags struct{ job restorejob.Check }

func (f *checkFlags) add(fs *pflag.FlagSet) {
	j := &f.job
	fs.StringVar(&j.Exec, "check-exec", "", "it counts as restored once this script for its /bin/sh ends well; else it is removed again")
	fs.StringVar(&j.TCP, "check-tcp", "", "the same once this [IP:]PORT of its own network takes a connection")
	fs.StringVar(&j.HTTP, "check-http", "", "the same once this URL of its own network, as :8080/healthz, answers with a status below 400")
	fs.DurationVar(&j.Interval, "check-interval", health.DefaultInterval, "time between two checks")
	fs.DurationVar(&j.Timeout, "check-timeout", health.DefaultTimeout, "how long one may take")
	fs.DurationVar(&j.Within, "check-within", health.DefaultWithin, "how long it may take until one succeeds")
	fs.DurationVar(&j.Stable, "healthy-for", 0, "how long all checks have to succeed then; without a check, how long it has to run")
	fs.StringVar(&j.Container, "check-container", "", "the container of a set whose check it is (default each of them)")
}

// check is nil if nothing is checked.
func (f *checkFlags) check() *restorejob.Check {
	if f.job.Exec == "" && f.job.TCP == "" && f.job.HTTP == "" && f.job.Stable == 0 {
		return nil
	}
	return &f.job
}

// checkOf is the check as the engine has it.
func checkOf(j restorejob.Args, o restore.Options) restore.Options {
	if j.Check != nil {
		check := health.Check(*j.Check)
		o.Check = &check
	}
	return o
}
