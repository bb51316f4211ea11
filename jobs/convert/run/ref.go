package run

import convertjob "github.com/lithify/lithify/jobs/convert"

// sourceRef is what a job's source is opened by.
func sourceRef(a convertjob.Args) string {
	return convertjob.Pinned(a.Source, a.SourceDigest)
}
