package report

import (
	"bytes"
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
		{"--expression", `syscall i= "execve" && auid i= "alice"`}, {"--field", "exe=nothing"},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"-if", log}, words...)
		o, err := search.ParseArgs(append(args, "--format", "csv"), utcEnv)
		if err != nil {
			t.Fatal(err)
		}
		search.RunFiles(t.Context(), o, utcEnv.Location, "", search.Stdio{Out: &out, Err: &errs})
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
		if nothing := words[len(words)-1] == "exe=nothing"; got != want || (r.code == 1) != nothing || (want == "") != nothing {
			t.Errorf("%q: exit %d\n got %s\nwant %s", words, r.code, got, want)
		}
	}
	if r := runOurs("-if", log, "-e", "--field", "x"); r.code != 1 || !strings.HasPrefix(r.stderr, "--field must be ") {
		t.Errorf("a wrong one: exit %d, %q", r.code, r.stderr)
	}
}

// TestGroupsNameUsersOfHosts shows users as the records have them, which may be
// others than those of this machine.
func TestGroupsNameUsersOfHosts(t *testing.T) {
	const log = "../../integration/harness/testdata/real-ENRICHED.log"
	r := runOurs("-if", log, "--by", "auid,uid", "-i", "--format", "csv")
	for _, want := range []string{"alice,alice,23\n", "alice,root,13\n", "backup,backup,61\n", "unset,www-data,90\n"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in %s", want, r.out)
		}
	}
	if r := runOurs("-if", log, "--by", "auid", "--format", "csv"); !strings.Contains(r.out, "\n1000,36\n") || strings.Contains(r.out, "alice") {
		t.Errorf("without -i: %s", r.out)
	}
}
