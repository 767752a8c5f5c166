package search

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// own runs ausearch's words and ours on a log, and wants an exit code.
func own(t testing.TB, code int, args ...string) string {
	t.Helper()
	r := runOurs(utcEnv, args...)
	if r.code != code {
		t.Fatalf("%q: exit %d, want %d: %s", args, r.code, code, r.stderr)
	}
	return r.out
}

// splitEvents splits output in the default format.
func splitEvents(text string) (out []string) {
	for i, one := range strings.Split(text, "----\n") {
		if i > 0 {
			out = append(out, "----\n"+one)
		}
	}
	return out
}

var ownLogs = []string{"testdata/kernel-raw.log", "testdata/fleet.log"}

// What is written backwards is what is written forwards, turned round; a limit is
// a beginning of it; a count is how many there are.
func TestReverseLimitCount(t *testing.T) {
	for _, log := range ownLogs {
		for _, cond := range [][]string{nil, {"-m", "SYSCALL"}, {"-sv", "no"}, {"-k", "o"}, {"-x", "/"}} {
			args := append([]string{"-if", log}, cond...)
			r := runOurs(utcEnv, args...)
			all := splitEvents(r.out)
			if len(all) == 0 {
				own(t, 1, append(args, "--count")...)
				continue
			}
			if got := own(t, 0, append(args, "--count")...); got != fmt.Sprintln(len(all)) {
				t.Errorf("%q: --count says %s, there are %d", args, got, len(all))
			}
			back := slices.Clone(all)
			slices.Reverse(back)
			if d := cmp.Diff(strings.Join(back, ""), own(t, 0, append(args, "--reverse")...)); d != "" {
				t.Errorf("%q --reverse (-want +got):\n%.2000s", args, d)
			}
			for _, n := range []int{1, 2, len(all) - 1, len(all), len(all) + 7} {
				if n < 1 {
					continue
				}
				limit := fmt.Sprint("--limit=", n)
				if got, want := own(t, 0, append(args, limit)...), strings.Join(all[:min(n, len(all))], ""); got != want {
					t.Errorf("%q %s: %d bytes, want %d", args, limit, len(got), len(want))
				}
				if got, want := own(t, 0, append(args, limit, "--reverse")...), strings.Join(back[:min(n, len(all))], ""); got != want {
					t.Errorf("%q %s --reverse: %d bytes, want %d", args, limit, len(got), len(want))
				}
			}
			if got := own(t, 0, append(args, "--just-one", "--reverse")...); got != back[0] {
				t.Errorf("%q --just-one --reverse: %q, want %q", args, got, back[0])
			}
		}
	}
}

// TestJSONOptions reads the format with -i on either side of it.
func TestJSONOptions(t *testing.T) {
	for _, args := range [][]string{{"--format", "json", "-i"}, {"-i", "--format", "json"}, {"--format", "json"}} {
		o, err := ParseArgs(args, utcEnv)
		if err != nil || o.Format != output.FormatJSON || o.Words != (len(args) == 3) {
			t.Errorf("%q: %+v, %v", args, o, err)
		}
	}
	for _, args := range [][]string{{"-r", "--format", "json"}, {"--format", "json", "-r"}, {"--format", "json", "--format", "json"}, {"--format", "json", "--extra-keys"}} {
		if _, err := ParseArgs(args, utcEnv); err == nil {
			t.Errorf("%q passed", args)
		}
	}
}

// --around shows each hit and what is near it, each event once, and nothing else.
func TestAround(t *testing.T) {
	t.Parallel()
	log := generatedLog(t, 400)
	all := splitEvents(own(t, 0, "-if", log))
	rapid.Check(t, func(rt *rapid.T) {
		key := rapid.SampledFrom([]string{"k0", "k1", "k2"}).Draw(rt, "key")
		ms := rapid.Int64Range(1, 90000).Draw(rt, "ms")
		node := rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "node")
		args := []string{"-if", log, "-k", key}
		if node != "" {
			args = append(args, "-n", node)
		}
		hits := splitEvents(own(t, 0, args...))
		var want []string
		for _, e := range all {
			near := slices.ContainsFunc(hits, func(h string) bool {
				return nodeOfText(h) == nodeOfText(e) && abs(msOf(t, h)-msOf(t, e)) <= ms
			})
			if near {
				want = append(want, e)
			}
		}
		around := append(args, "--around", fmt.Sprintf("%dms", ms))
		if d := cmp.Diff(want, splitEvents(own(t, 0, around...))); d != "" {
			rt.Fatalf("%q (-want +got):\n%.3000s", around, d)
		}
		slices.Reverse(want)
		if d := cmp.Diff(want, splitEvents(own(t, 0, append(around, "--reverse")...))); d != "" {
			rt.Fatalf("%q --reverse (-want +got):\n%.3000s", around, d)
		}
		if got := own(t, 0, append(around, "--count")...); got != fmt.Sprintln(len(want)) {
			rt.Fatalf("%q --count: %s, want %d", around, got, len(want))
		}
	})
	// A pipe is read once, and yet its surroundings are there.
	in, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() { io.Copy(w, in); w.Close() }()
	var out, errb bytes.Buffer
	code := ours(t.Context(), []string{"-k", "k1", "--around", "20s"}, utcEnv, "", Stdio{In: r, Out: &out, Err: &errb})
	if want := own(t, 0, "-if", log, "-k", "k1", "--around", "20s"); code != 0 || out.String() != want {
		t.Errorf("from a pipe: exit %d, %d bytes, want %d; %s", code, out.Len(), len(want), errb.String())
	}
}

func abs(n int64) int64 { return max(n, -n) }

// nodeOfText and msOf read an event in the default format.
func nodeOfText(text string) string {
	record := strings.SplitN(text, "\n", 4)[2]
	if rest, ok := strings.CutPrefix(record, "node="); ok {
		return rest[:strings.IndexByte(rest, ' ')]
	}
	return ""
}

func msOf(t testing.TB, text string) int64 {
	t.Helper()
	return eventtest.Parse([]byte(strings.SplitN(text, "\n", 4)[2]))[0].Ms
}

// generatedLog is a log of two named hosts and one without a name, whose clocks
// run a little apart.
func generatedLog(t testing.TB, n int) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	var b bytes.Buffer
	now := int64(1700000000000)
	for i := range n {
		now += rng.Int64N(20000)
		node := []string{"", "node=a ", "node=b "}[rng.IntN(3)]
		fmt.Fprintf(&b, "%stype=SYSCALL msg=audit(%d.%03d:%d): arch=c000003e syscall=59 success=yes exit=0 ppid=%d pid=%d auid=1000 uid=0 comm=\"c%d\" exe=\"/bin/c%d\" key=\"k%d\"\n",
			node, now/1000, now%1000, i+1, 100+rng.IntN(20), 120+rng.IntN(40), i%7, i%7, rng.IntN(9))
		fmt.Fprintf(&b, "%stype=PROCTITLE msg=audit(%d.%03d:%d): proctitle=\"c\"\n", node, now/1000, now%1000, i+1)
	}
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// --follow shows what is appended, from one log to the next.
func TestFollow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	rec := func(n int) string {
		return fmt.Sprintf("type=USER_LOGIN msg=audit(%d.000:%d): pid=%d uid=0 auid=0 ses=1 msg='op=login res=success'\n", 1700000000+n, n, n)
	}
	write := func(p, text string) {
		t.Helper()
		f, err := os.OpenFile(p, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	write(path+".1", rec(1))
	write(path, rec(2))
	run := func(args ...string) (next func() string, end func()) {
		ctx, cancel := context.WithCancel(t.Context())
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan int)
		go func() {
			var errb bytes.Buffer
			done <- ours(ctx, append([]string{"--input-logs", "--follow", "--format", "raw"}, args...), utcEnv, path, Stdio{Out: w, Err: &errb})
			w.Close()
		}()
		lines := bufio.NewReader(r)
		next = func() string {
			t.Helper()
			r.SetReadDeadline(time.Now().Add(time.Minute))
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("%q: nothing comes: %v", args, err)
			}
			return line
		}
		return next, func() { cancel(); <-done; r.Close() }
	}
	since, end := run("-ts", "01/01/20")
	defer end()
	live, endLive := run()
	defer endLive()
	odd, endOdd := run("-m", "USER_LOGIN", "--field", "pid~[13579]$", "--limit", "2")
	defer endOdd()
	if got := since(); got != rec(1) {
		t.Fatalf("first %q", got)
	}
	if got := since(); got != rec(2) {
		t.Fatalf("then %q", got)
	}
	time.Sleep(3 * 100 * time.Millisecond) // all are at the end
	want := func(n int) {
		t.Helper()
		for _, next := range []func() string{since, live} {
			if got := next(); got != rec(n) {
				t.Errorf("got %q, want %q", got, rec(n))
			}
		}
	}
	write(path, rec(3)[:20])
	time.Sleep(200 * time.Millisecond)
	write(path, rec(3)[20:])
	want(3)
	// Rotated twice between two looks, with a last record in the old one.
	write(path, rec(4))
	for _, mv := range [][2]string{{path + ".1", path + ".2"}, {path, path + ".1"}} {
		if err := os.Rename(mv[0], mv[1]); err != nil {
			t.Fatal(err)
		}
	}
	write(path, rec(5))
	for _, mv := range [][2]string{{path + ".2", path + ".3"}, {path + ".1", path + ".2"}, {path, path + ".1"}} {
		if err := os.Rename(mv[0], mv[1]); err != nil {
			t.Fatal(err)
		}
	}
	write(path, rec(6))
	want(4)
	want(5)
	want(6)
	// Emptied in place, as copytruncate does.
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	write(path, rec(7))
	want(7)
	if got := odd() + odd(); got != rec(3)+rec(5) {
		t.Errorf("with conditions: %q", got)
	}
}

// TestStrangers finds users that only the host that wrote a record knows.
func TestStrangers(t *testing.T) {
	const log = "../../integration/harness/testdata/real-ENRICHED.log"
	env := Env{Location: utcEnv.Location, Locale: "C", UserID: func(string) (uint32, bool) { return 0, false }}
	if r := runOurs(env, "-if", log, "-ul", "alice"); r.code != 1 || r.stderr != "Login user ID is non-numeric and unknown (alice)\n" {
		t.Errorf("without: exit %d, %q", r.code, r.stderr)
	}
	env.Strangers = true
	for _, args := range [][]string{{"-ul", "alice"}, {"--field", "auid=alice"}} {
		o, err := ParseArgs(args, env)
		if err != nil || len(o.Notes) != 1 {
			t.Fatalf("%q: %v, notes %q", args, err, o.Notes)
		}
		all := append([]string{"-if", log, "--count"}, args...)
		if r, want := runOurs(env, all...), runOurs(env, "-if", log, "--count", "-ul", "1000"); r != want || r.code != 0 {
			t.Errorf("%q: %+v, want those of her id: %+v", args, r, want)
		}
	}
	if r := runOurs(env, "-if", log, "-ua", "nobody-here"); r.code != 1 || r.stderr != "<no matches>\n" {
		t.Errorf("somebody else: exit %d, %q", r.code, r.stderr)
	}
}

// TestStrangeGroups finds groups that only the host that wrote a record knows, those
// that a program made included. A name in a record goes before this machine's number.
func TestStrangeGroups(t *testing.T) {
	const log = "../../integration/harness/testdata/real-ENRICHED.log"
	env := Env{Location: utcEnv.Location, Locale: "C", GroupID: func(string) (uint32, bool) { return 0, false }}
	if r := runOurs(env, "-if", log, "-gi", "backup"); r.code != 1 || r.stderr != "Group ID is non-numeric and unknown (backup)\n" {
		t.Errorf("without: exit %d, %q", r.code, r.stderr)
	}
	env.Strangers = true
	for _, args := range [][]string{{"-gi", "backup"}, {"-ge", "backup"}, {"-ga", "backup"}, {"--field", "gid=backup"}, {"--field", "egid=backup"}} {
		o, err := ParseArgs(args, env)
		if err != nil || len(o.Notes) != 1 {
			t.Fatalf("%q: %v, notes %q", args, err, o.Notes)
		}
		number := slices.Clone(args)
		number[1] = strings.Replace(args[1], "backup", "1003", 1)
		all := []string{"-if", log, "--count"}
		if r, want := runOurs(env, append(all, args...)...), runOurs(env, append(all, number...)...); r != want || r.code != 0 {
			t.Errorf("%q: %+v, want those of its id: %+v", args, r, want)
		}
	}
	log2 := writeLog(t, stamped("ADD_GROUP", `pid=1 uid=0 auid=0 ses=1 msg='op=add-group id=2001 exe="/usr/sbin/groupadd" res=success'`+"\x1dUID=\"root\" AUID=\"root\" ID=\"devs\"")+"\n"+
		strings.Replace(stamped("SYSCALL", exampleCall), ":45)", ":46)", 1)+"\x1dAUID=\"a\" UID=\"root\" GID=\"wheel\"\n")
	env.GroupID = func(name string) (uint32, bool) { return 0, name == "root" || name == "wheel" }
	for _, c := range []struct {
		name        string
		count, code int
	}{{"devs", 1, 0}, {"wheel", 1, 0}, {"root", 0, 1}, {"users", 0, 1}} {
		if r := runOurs(env, "-if", log2, "--count", "-gi", c.name); r.code != c.code || r.out != fmt.Sprintln(c.count) {
			t.Errorf("-gi %s: exit %d, %q, want %d events", c.name, r.code, r.out, c.count)
		}
	}
	env.Strangers = false // as the stock tool, which reads the number only
	if r := runOurs(env, "-if", log2, "--count", "-gi", "root"); r.out != "1\n" {
		t.Errorf("-gi root as ausearch: %q", r.out)
	}
}

// TestTreeOfUsers draws a tree with the names that its host has for the users.
func TestTreeOfUsers(t *testing.T) {
	call := func(at, pid, ppid int, comm string) string {
		return fmt.Sprintf("type=SYSCALL msg=audit(170000000%d.000:%d): arch=c000003e syscall=59 success=yes exit=0 ppid=%d pid=%d auid=1000 uid=0 "+
			"comm=%q exe=\"/bin/%s\" key=(null)\x1dARCH=x86_64 SYSCALL=execve AUID=\"alice\" UID=\"toor\"\n", at, at, ppid, pid, comm, comm)
	}
	path := writeLog(t, call(1, 20, 10, "sh")+call(2, 30, 20, "cat")+call(3, 31, 30, "less")+call(4, 40, 1, "other"))
	r := runOurs(utcEnv, "-if", path, "--tree", "-c", "cat")
	want := "----\ntime->" + time.Unix(1700000002, 0).Format(time.ANSIC) + " events=2\n" + // in the zone of whoever looks
		"       PID     PPID AUID         UID          COMMAND\n" +
		"        10        ? ?            ?            ?\n" +
		"        20       10 alice        toor          \\_ sh (/bin/sh)\n" +
		"*       30       20 alice        toor              \\_ cat (/bin/cat)\n" +
		"        31       30 alice        toor                  \\_ less (/bin/less)\n"
	if r.out != want || r.code != 0 {
		t.Errorf("exit %d %q\n%s\nwant\n%s", r.code, r.stderr, r.out, want)
	}
	r = runOurs(utcEnv, "-if", path, "--tree", "-c", "other", "--format", "json")
	if !strings.Contains(r.out, `"auid":1000,"auid_name":"alice","uid":0,"uid_name":"toor"`) {
		t.Errorf("json: %s", r.out)
	}
}

// TestStops checks that a search ends when its context does.
func TestStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, errb bytes.Buffer
	if code := ours(ctx, []string{"-if", "testdata/types.log", "-r"}, utcEnv, "", Stdio{Out: &out, Err: &errb}); code != 1 || errb.Len() == 0 {
		t.Errorf("a cancelled search: exit %d, %q", code, &errb)
	}
}
