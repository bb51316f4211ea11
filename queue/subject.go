package queue

import (
	"fmt"
	"strings"

	"github.com/lithify/lithify/jobs"
)

func specSubject(id jobs.ID) string  { return "st." + id.Scope() + "." + id.Key() + ".spec" }
func runSubject(id jobs.ID) string   { return "st." + id.Scope() + "." + id.Key() + ".run" }
func eventSubject(id jobs.ID) string { return "ev." + id.Scope() + "." + id.Key() }
func logSubject(id jobs.ID) string   { return "log." + id.Scope() + "." + id.Key() }

// WorkTemplate is the low-cardinality name of WORK's subjects in telemetry.
const WorkTemplate = "w.{priority}.{kind}.{os}.{arch}.{feature}"

// Line is a line of jobs in WORK, with a subject space and a consumer of its own:
// consumers of one work queue may not overlap.
type Line struct {
	Priority jobs.Priority
	Class    jobs.Class
}

// LineOf is where a job with this record is admitted.
func LineOf(r jobs.Record) Line { return Line{r.Priority, r.Class} }

// Lines are those that serve a class, the more urgent first.
func Lines(c jobs.Class) []Line {
	lines := make([]Line, len(jobs.Priorities))
	for i, p := range jobs.Priorities {
		lines[i] = Line{p, c}
	}
	return lines
}

func (l Line) join(sep string) string {
	return strings.Join([]string{string(l.Priority), l.Class.Kind, l.Class.OS, l.Class.Arch, l.Class.Feature}, sep)
}

// String is priority and class, for people.
func (l Line) String() string { return l.join("/") }

// Subject is where the message of a job in this line lies.
func (l Line) Subject(id jobs.ID) string { return "w." + l.join(".") + "." + string(id) }

// Consumer is the durable consumer of the line.
func (l Line) Consumer() string { return l.join("-") }

// ParseWork reads line and ID of a job from a subject of WORK.
func ParseWork(subject string) (Line, jobs.ID, error) {
	p := strings.Split(subject, ".")
	if len(p) != 7 || p[0] != "w" || p[1] == "" {
		return Line{}, "", fmt.Errorf("subject %q is not a job's", subject)
	}
	priority, err := jobs.ParsePriority(p[1])
	if err == nil {
		var id jobs.ID
		if id, err = jobs.ParseID(p[6]); err == nil {
			return Line{priority, jobs.Class{Kind: p[2], OS: p[3], Arch: p[4], Feature: p[5]}}, id, nil
		}
	}
	return Line{}, "", fmt.Errorf("subject %q is not a job's: %w", subject, err)
}

func deadSubject(id jobs.ID) string { return "dlq." + id.Scope() + "." + id.Key() }

// runID reads the job's ID from the subject of its record.
func runID(subject string) (jobs.ID, error) {
	p := strings.Split(subject, ".")
	if len(p) != 4 || p[0] != "st" || p[3] != "run" {
		return "", fmt.Errorf("subject %q is not a record's", subject)
	}
	return jobs.ParseID(p[1] + "-" + p[2])
}
