package report

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/search"
)

// TestFiltered narrows reports to what a search with the same words finds.
func TestFiltered(t *testing.T) {
	const log = "../../integration/harness/testdata/real-ENRICHED.log"
	serial := regexp.MustCompile(`(?m)^\d+\. \S+ \S+ (\d+) `)
	for _, words := range [][]string{
		{"--field", "exe=/usr/bin/cat"}, {"--field", "key~^del"}, {"--field", "uid!=1000", "--field", "syscall=execve"},
		{"--expression", `\key = "delete" && \exit >= 0`}, {"--field", "exe=nothing"},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"-if", log}, words...)
		search.Command(context.Background(), append(args, "--format", "csv"), utcEnv, "", search.Stdio{Out: &out, Err: &errs})
		want := ""
		for i, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
			if i > 0 {
				want += strings.Split(line, ",")[4] + " " // NODE,EVENT,DATE,TIME,SERIAL_NUM
			}
		}
		r := runOurs(append(args, "-e")...)
		got := ""
		for _, m := range serial.FindAllStringSubmatch(r.out, -1) {
			got += m[1] + " "
		}
		if got != want || (r.code == 0) != (want != "") {
			t.Errorf("%q: exit %d\n got %s\nwant %s", words, r.code, got, want)
		}
	}
	if r := runOurs("-if", log, "-e", "--field", "x"); r.code != 1 || !strings.HasPrefix(r.stderr, "--field must be ") {
		t.Errorf("a wrong one: exit %d, %q", r.code, r.stderr)
	}
}
