package search

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/logscan"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// indexedLog is a log that says of itself that a few of its events are found in
// little time, as a store does; about is its error.
type indexedLog struct {
	*logscan.Source
	about error
}

func (s *indexedLog) About(context.Context) (query.About, error) {
	return query.About{Indexed: true}, s.about
}

// task is an event that says which process it is of.
func task(at, pid, ppid int, name string) string {
	return taskOf("", at, pid, ppid, name, fmt.Sprintf("comm=%q exe=\"/bin/%s\"", name, name))
}

func taskOf(node string, at, pid, ppid int, key, names string) string {
	return fmt.Sprintf("%stype=SYSCALL msg=audit(%d.000:%d): arch=c000003e syscall=59 success=yes exit=0 ppid=%d pid=%d auid=4294967295 uid=54321 %s key=%q\n",
		node, 1700000000+at, at, ppid, pid, names, key)
}

// treeOf draws the tree of what is found, twice: by single questions to an index
// and from all of the log, which must come to the same.
func treeOf(t *testing.T, log string, args ...string) string {
	t.Helper()
	src := &logscan.Source{Input: logscan.Input{Path: writeLog(t, log)}}
	text := treeFrom(t, src, args...)
	if got := treeFrom(t, &indexedLog{Source: src}, args...); got != text {
		t.Errorf("%q: from all of the log:\n%s\nby an index:\n%s", args, text, got)
	}
	return text
}

func treeFrom(t *testing.T, src query.Source, args ...string) string {
	t.Helper()
	o, err := ParseArgs(append([]string{"--tree"}, args...), utcEnv)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if _, err := Find(t.Context(), o, src, nil, &out, nil); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// lines are the processes of a tree, without its heads and users.
func lines(tree string) (out []string) {
	for line := range strings.Lines(tree) {
		if strings.HasPrefix(line, "*") || strings.HasPrefix(line, " ") && !strings.Contains(line, "COMMAND") {
			out = append(out, strings.Replace(strings.Join(strings.Fields(line), " "), "* ", "*", 1))
		}
	}
	return out
}

func wantTree(t *testing.T, what, tree string, want ...string) {
	t.Helper()
	if got := lines(tree); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A process is an id of a host for as long as its parent stays the same.
func TestTreeLives(t *testing.T) {
	log := task(1, 20, 10, "first") + // the id before
		task(2, 30, 20, "its") +
		task(5, 20, 10, "firstly") +
		task(10, 20, 11, "sh") +
		task(11, 31, 20, "child") +
		task(12, 31, 20, "renamed") + // the same process by another name
		task(13, 20, 1, "sh") + // its parent is gone
		task(14, 32, 20, "late") +
		task(20, 20, 12, "third") + // the id after
		task(21, 33, 20, "other") +
		strings.ReplaceAll(task(11, 34, 20, "elsewhere"), "type=", "node=far type=") +
		"type=USER_LOGIN msg=audit(1700000012.000:99): no process\n"
	tree := treeOf(t, log, "-c", "sh")
	wantTree(t, "the second of three", tree,
		"11 ? ? ? ?",
		`*20 11 unset 54321 \_ sh (/bin/sh)`,
		`31 20 unset 54321 \_ renamed (/bin/renamed)`,
		`32 20 unset 54321 \_ late (/bin/late)`)
	if !strings.Contains(tree, " events=10,13\n") || strings.Contains(tree, "name no process") {
		t.Errorf("heads: %s", tree)
	}
	wantTree(t, "the first", treeOf(t, log, "-c", "first", "-w"),
		"10 ? ? ? ?", `*20 10 unset 54321 \_ first (/bin/first)`, `30 20 unset 54321 \_ its (/bin/its)`)
	wantTree(t, "another host's", treeOf(t, log, "-n", "far"),
		"20 ? ? ? ?", `*34 20 unset 54321 \_ elsewhere (/bin/elsewhere)`)
	if text := treeOf(t, log); !strings.HasSuffix(text, "----\n1 of the events found name no process\n") {
		t.Errorf("without a process: %.300s", text)
	}
	if text := treeOf(t, log, "-m", "USER_LOGIN", "--format", "json"); text != "" {
		t.Errorf("of no process: %q", text)
	}
}

// An event that does not say its parent is of the process that had its pid then.
func TestTreeOfProgramsRecords(t *testing.T) {
	added := func(at, pid int, exe string) string {
		return fmt.Sprintf("type=ADD_USER msg=audit(%d.000:%d): pid=%d uid=0 auid=54322 ses=1 msg='op=add exe=%q res=success'\n", 1700000000+at, at, pid, exe)
	}
	log := task(1, 20, 10, "bash") + task(2, 30, 20, "useradd") + added(3, 30, "/bin/useradd") + task(4, 31, 30, "nscd") +
		task(20, 30, 12, "cron") + task(21, 32, 30, "job") + added(30, 40, "/bin/alone") + added(19, 30, "/bin/cron")
	wantTree(t, "the first", treeOf(t, log, "-m", "ADD_USER", "-x", "useradd"),
		"10 ? ? ? ?", `20 10 unset 54321 \_ bash (/bin/bash)`, `*30 20 54322 root \_ useradd (/bin/useradd)`, `31 30 unset 54321 \_ nscd (/bin/nscd)`)
	wantTree(t, "the program says which", treeOf(t, log, "-m", "ADD_USER", "-x", "cron"),
		"12 ? ? ? ?", `*30 12 54322 root \_ cron (/bin/cron)`, `32 30 unset 54321 \_ job (/bin/job)`)
	wantTree(t, "of which nothing is known", treeOf(t, log, "-m", "ADD_USER", "-x", "alone"), `*40 ? 54322 root (/bin/alone)`)
}

// A process that is seen to do the same again and again is found around each hit, however
// far these are apart.
func TestTreeOfEqualSightings(t *testing.T) {
	const day = 24 * 3600
	log := task(1, 20, 10, "daemon") + task(2, 30, 20, "hit") + task(3*day, 20, 10, "daemon") + task(3*day+1, 31, 20, "hit")
	tree := treeOf(t, log, "-c", "hit")
	wantTree(t, "both", tree,
		"10 ? ? ? ?", `20 10 unset 54321 \_ daemon (/bin/daemon)`, `*30 20 unset 54321 \_ hit (/bin/hit)`,
		"10 ? ? ? ?", `20 10 unset 54321 \_ daemon (/bin/daemon)`, `*31 20 unset 54321 \_ hit (/bin/hit)`)
}

// A pid that comes again after a start of the machine, or after its process ended, is another
// process, though its parent has the same id.
func TestTreeOfNewLives(t *testing.T) {
	ended := strings.Replace(task(5, 20, 10, "sh"), "syscall=59", "syscall=231", 1)
	boot := "type=SYSTEM_BOOT msg=audit(1700000008.000:1): pid=1 uid=0 auid=4294967295 ses=4294967295 msg='res=success'\n"
	for what, between := range map[string]string{"an end": ended, "a start": boot, "a fall of serials": strings.Replace(boot, "SYSTEM_BOOT", "USER_LOGIN", 1)} {
		log := task(1, 20, 10, "sh") + task(2, 30, 20, "old") + between + task(10, 20, 10, "sh") + task(11, 31, 20, "new")
		if strings.HasPrefix(what, "a fall") {
			log = strings.NewReplacer(":1)", ":5001)", ":2)", ":5002)").Replace(log)
		}
		if what == "a start" {
			log = strings.NewReplacer(":1)", ":1)", "001.000:1)", "001.000:701)", ":2)", ":702)").Replace(log)
		}
		wantTree(t, what+", before it", treeOf(t, log, "-c", "old"), "10 ? ? ? ?", `20 10 unset 54321 \_ sh (/bin/sh)`, `*30 20 unset 54321 \_ old (/bin/old)`)
		got := treeOf(t, log, "-c", "sh")
		wantTree(t, what, got, "10 ? ? ? ?", `*20 10 unset 54321 \_ sh (/bin/sh)`, `30 20 unset 54321 \_ old (/bin/old)`,
			"10 ? ? ? ?", `*20 10 unset 54321 \_ sh (/bin/sh)`, `31 20 unset 54321 \_ new (/bin/new)`)
	}
}

// What events do not tell is left open: names, parents; a circle of ids ends.
func TestTreeUnknown(t *testing.T) {
	log := taskOf("", 1, 20, 30, "hit", "") + taskOf("", 2, 30, 20, "", `comm="round"`)
	wantTree(t, "a circle", treeOf(t, log, "-k", "hit"),
		`30 20 unset 54321 round`, `*20 30 unset 54321 \_ ?`)
	json := treeOf(t, log, "-k", "hit", "--format", "json")
	if want := `{"host":"","tree":{"pid":30,"ppid":20,`; !strings.HasPrefix(json, want) || !strings.Contains(json, `"hits":[1]`) {
		t.Errorf("%s, want %s…", json, want)
	}
	// More hits than are named.
	var b strings.Builder
	for i := range maxSerials + 3 {
		b.WriteString(task(i+1, 20, 10, "sh"))
	}
	if text := treeOf(t, b.String()); !strings.Contains(text, " events=1,2,3,4,5,6,7,8,9,10,and 3 more\n") {
		t.Errorf("many hits: %s", text)
	}
}

// Trees are bounded, and say so.
func TestTreeBounds(t *testing.T) {
	var wide strings.Builder
	wide.WriteString(task(1, 10, 2, "hit"))
	for i := range treeNodes + 5 {
		wide.WriteString(task(2+i, 1000+i, 10, "child"))
	}
	got := lines(treeFrom(t, &logscan.Source{Input: logscan.Input{Path: writeLog(t, wide.String())}}, "-c", "hit"))
	if len(got) != 1+1+treeNodes+1 || got[len(got)-1] != "... and 5 more" {
		t.Errorf("wide: %d lines, the last is %q", len(got), got[len(got)-1])
	}
	var deep strings.Builder
	for i := range 2*treeDepth + 20 {
		deep.WriteString(task(i+1, 1001+i, 1000+i, fmt.Sprint("p", i)))
	}
	hit := fmt.Sprint("p", treeDepth+5)
	text := treeOf(t, deep.String(), "-c", hit, "-w")
	got = lines(text)
	// Where it goes on above, 64 parents, the process, 64 generations below it.
	if len(got) != 1+treeDepth+1+treeDepth+1 || got[0] != "... and more above: --tree -p 1005 shows them" || got[len(got)-1] != "[128] ... and 1 more" || !strings.HasPrefix(got[1+treeDepth], "*") {
		t.Errorf("deep: %d lines, from %q to %q", len(got), got[0], got[len(got)-1])
	}
	for line := range strings.Lines(text) {
		if len(line) > 180 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	if json := treeOf(t, deep.String(), "-c", hit, "-w", "--format", "json"); !strings.HasPrefix(json, `{"host":"","above":1005,"tree":{"pid":1006,`) || !strings.Contains(json, `"more":true,"left_out":1`) {
		t.Errorf("deep: %.200s", json)
	}
	// Not one generation more: nothing is left out.
	text = treeOf(t, deep.String(), "-c", fmt.Sprint("p", treeDepth-2), "-w")
	if strings.Contains(text, "more above") {
		t.Errorf("%.300s", text)
	}
	text = treeOf(t, deep.String(), "-c", fmt.Sprint("p", treeDepth+19), "-w")
	if strings.HasSuffix(text, "more\n") {
		t.Errorf("%s", text[len(text)-300:])
	}
}

// So is the number of processes that an answer has.
func TestTreesBound(t *testing.T) {
	var log strings.Builder
	most := treesNodes/(2*treeDepth+1) + 50 // trees, of which some are short
	for i := range most + 2*treeDepth {
		log.WriteString(task(i+1, 1001+i, 1000+i, "all"))
	}
	o, err := ParseArgs([]string{"--tree", "-c", "all"}, utcEnv)
	if err != nil {
		t.Fatal(err)
	}
	src := &logscan.Source{Input: logscan.Input{Path: writeLog(t, log.String())}}
	var out strings.Builder
	var warned []string
	hits, err := Find(t.Context(), o, src, nil, &out, func(text string) { warned = append(warned, text) })
	if err != nil || int(hits) != most+2*treeDepth {
		t.Fatal(hits, err)
	}
	wrote, n, left := 0, 0, 0
	if len(warned) == 1 {
		_, _ = fmt.Sscanf(warned[0], "%d trees are written, which have %d processes; %d more are left out", &wrote, &n, &left)
	}
	if trees := strings.Count(out.String(), "----\n"); len(warned) != 1 || trees != wrote || wrote+left != int(hits) || n < treesNodes || n > treesNodes+2*treeDepth+treeNodes {
		t.Errorf("%d trees of %d events, %q", trees, hits, warned)
	}
}

// Errors of the source and of the writer end a tree.
func TestTreeErrors(t *testing.T) {
	path := writeLog(t, task(1, 20, 10, "sh"))
	o, err := ParseArgs([]string{"--tree"}, utcEnv)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	src := &indexedLog{Source: &logscan.Source{Input: logscan.Input{Path: path}}, about: broken}
	if found, err := Find(t.Context(), o, src, nil, io.Discard, nil); !errors.Is(err, broken) || found != 1 {
		t.Errorf("about: %d, %v", found, err)
	}
	src.about = nil
	if _, err := Find(t.Context(), o, src, nil, failing{broken}, nil); !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "write result: ") {
		t.Errorf("writing: %v", err)
	}
	o.Tree, o.Count = false, true
	if found, err := Find(t.Context(), o, src, nil, failing{broken}, nil); !errors.Is(err, broken) || found != 1 {
		t.Errorf("a count: %d, %v", found, err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// The memory that a question may take bounds its trees, and the times around its hits: a collector answers it in its own process.
func TestMemoryOfSurroundings(t *testing.T) {
	var log strings.Builder
	for i := range need.Size(3000, 600) {
		log.WriteString(task(10*(i+1), 1001+i%50, 1000, "all"))
	}
	src := &indexedLog{Source: &logscan.Source{Input: logscan.Input{Path: writeLog(t, log.String())}}}
	for _, args := range [][]string{{"--tree"}, {"--around", "1s"}} {
		ask := func(memory *query.Memory) (string, error) {
			o, err := ParseArgs(append([]string{"-c", "all"}, args...), utcEnv)
			if err != nil {
				t.Fatal(err)
			}
			o.Query.Memory = memory
			var out strings.Builder
			w := output.NewWriter(&out, &o.Config, time.UTC)
			_, err = Find(t.Context(), o, src, w, &out, nil)
			return out.String(), errors.Join(err, w.Close())
		}
		want, err := ask(nil)
		if err != nil || want == "" {
			t.Fatal(args, err)
		}
		if got, err := ask(query.NewMemory(256<<20, nil)); err != nil || got != want {
			t.Errorf("%q with memory: %v, %d bytes of %d", args, err, len(got), len(want))
		}
		little := query.NewMemory(int64(need.Size(64, 8))<<10, nil)
		if _, err := ask(little); !errors.Is(err, query.ErrMemory) {
			t.Errorf("%q with little memory: %v", args, err)
		}
	}
}
