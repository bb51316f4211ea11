package main

import (
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	for name, tc := range map[string]struct {
		in                      string
		passed, failed, skipped int
		want                    string // in what is printed
	}{
		"pass": {
			in: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Elapsed":2.5}
`,
			passed: 1, want: "    2.5s p\n",
		},
		"a parent does not count": {
			in: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestA/x"}
{"Action":"output","Package":"p","Test":"TestA/x","Output":"    a_test.go:3: got 1\n"}
{"Action":"fail","Package":"p","Test":"TestA/x"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- FAIL: TestA (0.00s)\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}
`,
			failed: 1, want: "FAILED p TestA/x\n    a_test.go:3: got 1\n",
		},
		"skip with its reason": {
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:9: needs root\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
`,
			skipped: 1, want: "  p TestA: a_test.go:9: needs root\n",
		},
		"skip among what servers write": {
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"    registry: GET /v2/\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: starts\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:9: long lane\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    registry: ends\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
`,
			skipped: 1, want: "  p TestA: a_test.go:9: long lane\n",
		},
		"skip without a reason": {
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"    registry: GET /v2/\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
`,
			skipped: 1, want: "  p TestA: no reason given\n",
		},
		"does not build": {
			in: `{"Action":"build-output","ImportPath":"p","Output":"p.go:1: no\n"}
{"Action":"build-fail","ImportPath":"p"}
{"Action":"fail","Package":"p","FailedBuild":"p"}
`,
			failed: 1, want: "FAILED p\np.go:1: no\n",
		},
		"exits in the middle": {
			in: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"signal: killed\n"}
{"Action":"fail","Package":"p"}
`,
			failed: 1, want: "FAILED p\nsignal: killed\nended in the middle of TestA\n",
		},
		"go ends in the middle": {
			in: `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"start","Package":"q"}
{"Action":"run","Package":"q","Test":"TestB"}
{"Action":"pass","Package":"q","Test":"TestB"}
{"Action":"pass","Package":"q"}
`,
			passed: 1, failed: 1, want: "FAILED p\nended in the middle of TestA\n",
		},
		"not an event": {in: "go: no such tool\n", want: "go: no such tool\n"},
		"no newline":   {in: `{"Action":"pass","Package":"p","Test":"TestA"}`, passed: 1, want: "1 passed, 0 failed, 0 skipped\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			s, err := read(strings.NewReader(tc.in), &out)
			if err != nil {
				t.Fatal(err)
			}
			s.print(&out)
			if s.passed != tc.passed || len(s.failed) != tc.failed || len(s.skipped) != tc.skipped {
				t.Errorf("got %d, %d, %d, want %d, %d, %d", s.passed, len(s.failed), len(s.skipped), tc.passed, tc.failed, tc.skipped)
			}
			if !strings.Contains(out.String(), tc.want) {
				t.Errorf("got:\n%s\nwant in it:\n%s", out.String(), tc.want)
			}
		})
	}
}
