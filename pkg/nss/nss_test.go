package nss

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/internal/need"
)

func TestMain(m *testing.M) {
	need.Parallel(8) // they wait for helpers
	goleak.VerifyTestMain(m)
}

func TestSystemNames(t *testing.T) {
	dir := t.TempDir()
	files := [fileCount]string{filepath.Join(dir, "passwd"), filepath.Join(dir, "group"), filepath.Join(dir, "protocols"), filepath.Join(dir, "nsswitch.conf")}
	write := func(i int, text string) {
		if err := os.WriteFile(files[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(0, "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nalias:x:1000:1000\n#no:x:5:5\nbroken\n+nis:x:6:6\nx:y:nan:1\n")
	write(1, "root:x:0:\nusers:x:100:alice\n")
	write(2, "# comment\nip\t0\tIP # x\ntcp 6 TCP\nmptcp 262 MPTCP\nbad\n")
	now := time.Unix(1700000000, 0)
	s := New(Config{files: files, Now: func() time.Time { return now }})
	check := func(what, got string, ok bool, want string) {
		t.Helper()
		if got != want || ok != (want != "") {
			t.Errorf("%s is %q (%v), want %q", what, got, ok, want)
		}
	}
	user := func(uid uint32, want string) { t.Helper(); got, ok := s.User(uid); check("user", got, ok, want) }
	user(0, "root")
	user(1000, "alice")
	user(5, "")
	user(6, "")
	got, ok := s.Group(100)
	check("group", got, ok, "users")
	got, ok = s.Protocol(262)
	check("protocol", got, ok, "mptcp")

	// A new account is seen a second later, and a file that went away.
	write(0, "root:x:0:0::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n")
	s.Refresh()
	user(1001, "")
	now = now.Add(recheck)
	s.Refresh()
	user(1001, "bob")
	user(1000, "")
	if err := os.Remove(files[1]); err != nil {
		t.Fatal(err)
	}
	now = now.Add(-time.Hour) // the clock was set back
	s.Refresh()
	got, ok = s.Group(100)
	check("group", got, ok, "")
}

func TestSwitch(t *testing.T) {
	for _, c := range []struct {
		text   string
		compat bool
		want   plan
	}{
		{"", false, filesOnly},
		{"group: files sss\n", false, filesOnly},
		{"passwd: files\n", false, filesOnly},
		{"passwd:\tfiles   systemd\n", false, plan{true, []string{"systemd"}}},
		{" passwd : files sss # ldap\n", false, plan{true, []string{"sss"}}},
		{"#passwd: files sss\n", false, filesOnly},
		{"passwd: sss files\n", false, plan{false, []string{"sss"}}},
		{"passwd: files [NOTFOUND=return] ldap\n", false, filesOnly},
		{"passwd: files [notfound=RETURN success=return] ldap\n", false, filesOnly},
		{"passwd: files [!UNAVAIL=return] ldap\n", false, filesOnly},
		{"passwd: files [UNAVAIL=return] ldap sss\n", false, plan{true, []string{"ldap", "sss"}}},
		{"passwd: files[SUCCESS=merge]systemd\n", false, plan{true, []string{"systemd"}}},
		{"passwd: files [SUCCESS=continue] sss\n", false, plan{false, []string{"sss"}}},
		{"passwd: sss [NOTFOUND=return] files\n", false, plan{false, []string{"sss"}}},
		{"passwd: compat\n", false, filesOnly},
		{"passwd: compat systemd\n", false, plan{true, []string{"systemd"}}},
		{"passwd: compat\n", true, plan{false, []string{"compat"}}},
		{"passwd: files [ sss", false, filesOnly},
		{"passwd: sss [", false, plan{false, []string{"sss"}}},
		{"passwd: ] [ [\n", false, plan{false, []string{"]"}}},
	} {
		if got := parseSwitch([]byte(c.text), "passwd", func() bool { return c.compat }); !cmp.Equal(got, c.want, cmp.AllowUnexported(plan{})) {
			t.Errorf("%q: %+v, want %+v", c.text, got, c.want)
		}
	}
}

func FuzzSwitch(f *testing.F) {
	f.Add("passwd: files [!NOTFOUND=return SUCCESS=merge] sss systemd\ngroup: compat")
	f.Fuzz(func(t *testing.T, text string) {
		if p := parseSwitch([]byte(text), "passwd", func() bool { return false }); len(p.others) == 0 && !p.localFirst {
			t.Errorf("%q: %+v", text, p)
		}
	})
}

// made is a machine of files in a folder.
func made(t *testing.T, cfg Config, passwdFile, switchFile string) *System {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"passwd": passwdFile, "group": "staff:x:50:\n", "nsswitch.conf": switchFile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg.files = [fileCount]string{dir + "/passwd", dir + "/group", dir + "/protocols", dir + "/nsswitch.conf"}
	if cfg.socket == "" {
		cfg.socket = dir + "/no-socket"
	}
	s := New(cfg)
	t.Cleanup(s.Close)
	return s
}

const madePasswd = "root:x:0:0::/:/bin/sh\nlocal:x:1000:1000::/:/bin/sh\n"

// helper is a getent of shell text.
func helper(t *testing.T, text string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "getent")
	if err := need.Program(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return []string{path}
}

func TestFilesAloneStartNothing(t *testing.T) {
	ask := func(*directory, int, []key) ([]answer, error) {
		t.Error("somebody was asked")
		return nil, errors.New("no")
	}
	for _, text := range []string{"", "passwd: files\ngroup: files\n", "passwd: compat\ngroup: compat\n"} {
		s := made(t, Config{ask: ask}, madePasswd, text)
		if _, ok := s.User(70001); ok {
			t.Error("user 70001 has a name")
		}
		if _, ok := s.GroupID("nobody-known"); ok {
			t.Error("a group that is not there has an id")
		}
	}
	// The file's own accounts come first, and what can be no name is not asked for.
	s := made(t, Config{ask: ask}, madePasswd, "passwd: files sss\ngroup: files sss\n")
	if name, ok := s.User(1000); !ok || name != "local" {
		t.Errorf("user 1000 is %q", name)
	}
	if id, ok := s.UserID("local"); !ok || id != 1000 {
		t.Errorf("local is %d", id)
	}
	for _, name := range []string{"", "70001", "+5", "-x", " 7", "0x1f", "a:b", "a\nb", "a\x00b", strings.Repeat("x", 300)} {
		if _, ok := s.UserID(name); ok {
			t.Errorf("%q is a user", name)
		}
	}
	if _, ok := s.User(noID); ok {
		t.Error("no id has a name")
	}
}

func TestGetent(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	s := made(t, Config{getents: append([]string{"/no/getent"}, helper(t, `
echo "$@ in $(pwd)" >>`+log+`
env | sort >`+log+`.env
shift 2
code=0
for k; do case $k in
70001|carla) echo "carla:x:70001:70001::/home/carla:/bin/sh";;
70003) printf 'wide:x:70003:'; yes a,b | head -c 100000 | tr '\n' ,; echo;;
CARLA) echo "carla:x:70001:70001::/:";;
*) code=2;;
esac; done
exit $code`)...)}, madePasswd, "passwd: files ldap\ngroup: ldap files\n")
	check := func(what string, got any, ok bool, want any) {
		t.Helper()
		if ok != (want != nil) || ok && got != want {
			t.Errorf("%s is %v (%v), want %v", what, got, ok, want)
		}
	}
	for range 3 { // the answers are kept
		name, ok := s.User(70001)
		check("70001", name, ok, "carla")
		name, ok = s.User(70002)
		check("70002", name, ok, nil)
		name, ok = s.Group(70003)
		check("group 70003", name, ok, "wide")
		name, ok = s.Group(50) // ldap comes first, and has none
		check("group 50", name, ok, nil)
		id, ok := s.UserID("carla")
		check("carla", id, ok, uint32(70001))
		id, ok = s.UserID("CARLA")
		check("CARLA", id, ok, uint32(70001))
		id, ok = s.UserID("nobody-known")
		check("nobody-known", id, ok, nil)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want := "passwd -- 70001 in /\npasswd -- 70002 in /\ngroup -- 70003 in /\ngroup -- 50 in /\npasswd -- carla in /\npasswd -- CARLA in /\npasswd -- nobody-known in /\n"
	if string(text) != want {
		t.Errorf("getent was called with\n%s", text)
	}
	env, err := os.ReadFile(log + ".env")
	if err != nil || strings.Contains(string(env), "HOME=") || !strings.Contains(string(env), "LC_ALL=C\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n") {
		t.Errorf("its environment is %s %v", env, err)
	}
	if got := s.Stats(); got != (Stats{Found: 4, Absent: 3}) {
		t.Errorf("%+v", got)
	}
}

// Helpers that hang, flood, lie and die cost a bounded time each and never a wrong
// name.
func TestBadHelpers(t *testing.T) {
	for name, text := range map[string]string{
		"hangs": "sleep 1000", "hangs deaf": "trap '' TERM INT HUP; sleep 1000; sleep 1000",
		"leaves its pipe to another": "setsid sleep 4 & sleep 1000",
		"floods":                     "exec yes carla:x:70001:70001::/:",
		"one line without end":       "printf carla:x:70001:; exec tr '\\0' a </dev/zero",
		"junk":                       "head -c 100000 /dev/urandom",
		"empty name":                 "echo :x:70001:1::/:",
		"control bytes":              "printf 'ca\\033rla:x:70001:1::/:\\n'",
		"another's":                  "echo root:x:0:0::/:",
		"no number":                  "echo carla:x:seventy:0::/:",
		"a number too large":         "echo carla:x:4295037297:0::/:",
		"success without an answer":  "exit 0",
		"an answer and not found":    "echo carla:x:70001:1::/:; exit 2",
		"fails":                      "exit 1",
		"crashes":                    "kill -SEGV $$",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var said []string
			s := made(t, Config{getents: helper(t, text), limit: 2 * time.Second, Wait: time.Minute, Warn: func(msg string, args ...any) { said = append(said, fmt.Sprint(msg, args)) }},
				madePasswd, "passwd: files ldap\ngroup: files ldap\n")
			if got, ok := s.User(70001); ok {
				t.Errorf("70001 is %q", got)
			}
			got := s.Stats()
			if got.Failed != 1 || got.Found+got.Absent != 0 || got.Unanswered != 1 || len(said) != 1 {
				t.Errorf("%+v, said %q", got, said)
			}
			if strings.HasPrefix(name, "hangs") != (got.TimedOut == 1) && name != "leaves its pipe to another" {
				t.Errorf("%d helpers took too long", got.TimedOut)
			}
		})
	}
	s := made(t, Config{getents: []string{"/no/getent"}}, madePasswd, "passwd: sss files\n")
	if name, ok := s.User(1000); !ok || name != "local" {
		t.Errorf("with nobody to ask, 1000 is %q", name)
	}
}

// asker answers when the test says so.
type asker struct {
	calls   chan []key
	answers chan []answer
}

func (a *asker) ask(d *directory, _ int, keys []key) ([]answer, error) {
	select {
	case a.calls <- keys:
	case <-d.ctx.Done():
		return nil, d.ctx.Err()
	}
	select {
	case got := <-a.answers:
		return got, nil
	case <-d.ctx.Done():
		return nil, d.ctx.Err()
	}
}

// A source that hangs keeps one record for a moment, the others not at all; its
// answer is used when it comes.
func TestHangingSource(t *testing.T) {
	a := &asker{calls: make(chan []key, 9), answers: make(chan []answer)}
	s := made(t, Config{ask: a.ask, Wait: 10 * time.Millisecond}, madePasswd, "passwd: files sss\n")
	for id := range uint32(1000) { // not 1000 times the wait: the test would take 10 s
		if _, ok := s.User(70000 + id); ok {
			t.Fatal("found")
		}
	}
	s.directory.mu.Lock()
	patient, queued := s.directory.patient, len(s.directory.queue)
	s.directory.mu.Unlock()
	if patient || queued > maxQueue {
		t.Errorf("patient: %v, queued: %d", patient, queued)
	}
	if got := s.Stats().Unanswered; got != 1000 {
		t.Errorf("%d without an answer", got)
	}
	first := <-a.calls
	answers := make([]answer, len(first))
	for i, k := range first {
		answers[i] = answer{found, k.id, fmt.Sprint("user", k.id)}
	}
	a.answers <- answers
	need.Wait(t, "the answer is used", func() bool {
		name, _ := s.User(first[0].id)
		return name == fmt.Sprint("user", first[0].id)
	})
}

// A known answer is given out while it is looked for anew, and a failure does not
// take it away.
func TestKnownAnswers(t *testing.T) {
	var clock atomic.Int64
	var calls, fail atomic.Int64
	ask := func(_ *directory, _ int, keys []key) ([]answer, error) {
		calls.Add(1)
		if fail.Load() > 0 {
			return nil, errors.New("down")
		}
		return []answer{{found, keys[0].id, fmt.Sprint("carla", calls.Load())}}, nil
	}
	s := made(t, Config{ask: ask, Now: func() time.Time { return time.Unix(1_800_000_000+clock.Load(), 0) }}, madePasswd, "passwd: files sss\n")
	is := func(want string) func() bool {
		return func() bool { got, _ := s.User(70001); return got == want }
	}
	first, again := is("carla1")(), is("carla1")()
	if !first || !again || calls.Load() != 1 {
		t.Fatalf("%d calls", calls.Load())
	}
	clock.Add(int64(keepFound/time.Second) + 1)
	if !is("carla1")() {
		t.Error("the old answer is not used")
	}
	need.Wait(t, "the new answer", is("carla2"))
	fail.Store(1)
	clock.Add(int64(keepFound/time.Second) + 1)
	is("")()
	need.Wait(t, "the source is asked", func() bool { return s.Stats().Failed == 1 })
	if !is("carla2")() {
		t.Error("a source that is down takes a name away")
	}
	// Another nsswitch.conf: nothing of before holds.
	if err := os.WriteFile(s.cfg.files[nsswitch], []byte("passwd: files\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	clock.Add(2)
	s.Refresh()
	if !is("")() {
		t.Error("sss is asked still")
	}
}

// What callers may wait in all is bounded, too: 40 ms here, and a twentieth of the
// time that passes.
func TestWaitingIsShared(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	d := newDirectory(&Config{Wait: 10 * time.Millisecond, Share: 0.05, Now: func() time.Time { return now }})
	d.credit = 0
	if got := d.mayWait(now); got != 0 {
		t.Errorf("without credit: %s", got)
	}
	if got := d.mayWait(now.Add(100 * time.Millisecond)); got != 5*time.Millisecond {
		t.Errorf("after 100 ms: %s", got)
	}
	if got := d.mayWait(now.Add(time.Hour)); got != 10*time.Millisecond || d.credit != 40*time.Millisecond {
		t.Errorf("after an hour: %s of %s", got, d.credit)
	}
}

// Somebody who goes through all ids takes bounded memory and few helpers.
func TestManyIDs(t *testing.T) {
	var calls, most atomic.Int64
	ask := func(_ *directory, _ int, keys []key) ([]answer, error) {
		calls.Add(1)
		most.Store(max(most.Load(), int64(len(keys))))
		return slices.Repeat([]answer{{state: absent}}, len(keys)), nil
	}
	s := made(t, Config{ask: ask, Wait: time.Millisecond, Share: 0.001}, madePasswd, "passwd: files sss\n")
	var all sync.WaitGroup
	for g := range uint32(4) {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := range uint32(10000) {
				s.User(100000 + g*10000 + i)
			}
		}()
	}
	all.Wait()
	s.directory.mu.Lock()
	n := len(s.directory.entries)
	s.directory.mu.Unlock()
	if n > maxEntries || most.Load() > maxBatch {
		t.Errorf("%d answers are kept, %d were asked for at once", n, most.Load())
	}
	t.Logf("%d helpers for 40,000 ids", calls.Load())
}

// A batch that fails is asked again one by one: one bad account does not take the
// others' names.
func TestOneBadOfMany(t *testing.T) {
	var clock atomic.Int64
	hold := make(chan struct{})
	ask := func(_ *directory, _ int, keys []key) ([]answer, error) {
		<-hold
		if slices.Contains(keys, key{id: 70005}) {
			return nil, errors.New("bad")
		}
		var got []answer
		for _, k := range keys {
			got = append(got, answer{found, k.id, fmt.Sprint("user", k.id)})
		}
		return got, nil
	}
	s := made(t, Config{ask: ask, Wait: time.Microsecond, Now: func() time.Time { return time.Unix(1_800_000_000+clock.Load(), 0) }}, madePasswd, "passwd: files sss\n")
	for id := range uint32(10) {
		s.User(70000 + id)
	}
	close(hold)
	need.Wait(t, "all but one have a name", func() bool {
		clock.Add(int64(keepFailed/time.Second) + 1)
		for id := range uint32(10) {
			if _, ok := s.User(70000 + id); !ok && id != 5 {
				return false
			}
		}
		return true
	})
	if _, ok := s.User(70005); ok {
		t.Error("the bad one has a name")
	}
}

func TestUserdb(t *testing.T) {
	replies := map[string]string{
		`"uid":70001`:       `{"parameters":{"record":{"userName":"carla","uid":70001},"incomplete":false}}`,
		`"userName":"dora"`: `{"parameters":{"record":{"userName":"dora","uid":70002}}}`,
		`"gid":7`:           `{"parameters":{"record":{"groupName":"` + strings.Repeat("g", 40) + `","gid":7,"members":["` + strings.Repeat("m", 100000) + `"]}}}`,
		`"uid":70009`:       `{"error":"io.systemd.UserDatabase.ServiceNotAvailable","parameters":{}}`,
		`"uid":70010`:       `{"parameters":{"record":{"userName":"root","uid":0}}}`,
		`"uid":70011`:       `{"parameters":`,
	}
	socket := filepath.Join(t.TempDir(), "socket")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Add(1)
	go func() {
		defer served.Done()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			served.Add(1)
			go func() { defer served.Done(); serveUserdb(conn, replies) }()
		}
	}()
	t.Cleanup(func() { ln.Close(); served.Wait() })
	s := made(t, Config{socket: socket, getents: helper(t, `shift 2; [ "$1" = 70009 ] && echo helped:x:70009:1::/: || exit 2`)}, madePasswd, "passwd: files systemd\ngroup: files systemd\n")
	for id, want := range map[uint32]string{70001: "carla", 70003: "", 70009: "helped", 70010: "", 70011: ""} {
		if got, _ := s.User(id); got != want {
			t.Errorf("%d is %q, want %q", id, got, want)
		}
	}
	if got, ok := s.UserID("dora"); !ok || got != 70002 {
		t.Errorf("dora is %d", got)
	}
	if got, _ := s.Group(7); len(got) != 40 {
		t.Errorf("group 7 is %q", got)
	}
	if _, ok := s.GroupID("nobody-known"); ok {
		t.Error("a group that is not there has an id")
	}
}

func serveUserdb(conn net.Conn, replies map[string]string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		call, err := in.ReadString(0)
		if err != nil {
			return
		}
		reply := `{"error":"io.systemd.UserDatabase.NoRecordFound"}`
		for what, text := range replies {
			if strings.Contains(call, what+",") || strings.Contains(call, what+"}") {
				reply = text
			}
		}
		if _, err := io.WriteString(conn, reply+"\x00"); err != nil {
			return
		}
	}
}

// Close ends a helper that runs, and whoever waits for it.
func TestCloseEndsHelpers(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	s := made(t, Config{getents: helper(t, "echo $$ >"+pid+"; sleep 1000"), Wait: time.Hour, limit: time.Hour}, madePasswd, "passwd: files ldap\n")
	waited := make(chan struct{})
	go func() { defer close(waited); s.User(70001) }()
	need.Wait(t, "the helper runs", func() bool { b, err := os.ReadFile(pid); return err == nil && len(b) > 1 })
	s.Close()
	<-waited
	b, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/" + strings.TrimSpace(string(b))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the helper runs on: %v", err)
	}
	if s.directory.ctx.Err() != context.Canceled {
		t.Error("not ended")
	}
}

func FuzzReadAccounts(f *testing.F) {
	f.Add("carla:x:70001:70001::/home/carla:/bin/sh\n", 1)
	f.Add(strings.Repeat("a", 5000)+":x:1", 2)
	f.Fuzz(func(t *testing.T, text string, most int) {
		lines, err := readAccounts(strings.NewReader(text), most&31)
		if err == nil && len(lines) > most&31 {
			t.Errorf("%d lines of %d", len(lines), most)
		}
		for _, l := range lines {
			if !validName(l.name) {
				t.Errorf("%q is a name", l.name)
			}
		}
	})
}
