package queue

import (
	"fmt"
	"strings"

	"github.com/lithify/lithify/jobs"
)

func specSubject(id jobs.ID) string  { return "st." + id.Scope() + "." + id.Key() + ".spec" }
func runSubject(id jobs.ID) string   { return "st." + id.Scope() + "." + id.Key() + ".run" }
func eventSubject(id jobs.ID) string { return "ev." + id.Scope() + "." + id.Key() }

// workPrefix holds the place of a priority: consumers of one work queue may not
// overlap, so a second priority is a second subject space.
const workPrefix = "w.bulk."

// WorkTemplate is the low-cardinality name of WORK's subjects in telemetry.
const WorkTemplate = workPrefix + "{kind}.{os}.{arch}.{feature}"

func classSubject(c jobs.Class) string {
	return workPrefix + c.Kind + "." + c.OS + "." + c.Arch + "." + c.Feature
}

// WorkSubject is where the message of an admitted job lies.
func WorkSubject(c jobs.Class, id jobs.ID) string { return classSubject(c) + "." + string(id) }

func deadSubject(id jobs.ID) string { return "dlq." + id.Scope() + "." + id.Key() }

// ParseWork reads the job's ID from a subject of WORK.
func ParseWork(subject string) (jobs.ID, error) {
	rest, ok := strings.CutPrefix(subject, workPrefix)
	i := strings.LastIndexByte(rest, '.')
	if !ok || strings.Count(rest, ".") != 4 {
		return "", fmt.Errorf("subject %q is not a job's", subject)
	}
	return jobs.ParseID(rest[i+1:])
}

// ConsumerName is the durable consumer of a class.
func ConsumerName(c jobs.Class) string {
	return strings.Join([]string{"bulk", c.Kind, c.OS, c.Arch, c.Feature}, "-")
}

// runID reads the job's ID from the subject of its record.
func runID(subject string) (jobs.ID, error) {
	p := strings.Split(subject, ".")
	if len(p) != 4 || p[0] != "st" || p[3] != "run" {
		return "", fmt.Errorf("subject %q is not a record's", subject)
	}
	return jobs.ParseID(p[1] + "-" + p[2])
}
