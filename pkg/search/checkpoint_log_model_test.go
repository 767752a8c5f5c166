package search

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// logStory is what happens to a log and one checkpoint of it: a writer whose events
// interleave and come late, rotation and compression at any moment, and searches of every
// kind. Each line is to be printed once.
type logStory struct {
	t         *testing.T
	r         *rand.Rand
	dir       string
	log, ck   string
	ms        int64 // the writer's clock
	serial    int
	open      []*openCall
	torn      string         // the rest of a line of which a part is written
	lines     map[string]int // not printed yet
	tell      string         // what happened, to be shown
	key       bool           // the search is for one key
	prints    int
	early     int
	whole     bool // no search takes the log for quiet while an event is being written
	rotations int
}

// openCall is a call of which records are still to be written.
type openCall struct {
	at   int64
	left []string
	key  string
}

func (s *logStory) note(format string, args ...any) {
	s.tell += fmt.Sprintf(format, args...) + "\n"
}

// line writes a line, or a part of it.
func (s *logStory) line(text string, wanted bool) {
	s.t.Helper()
	s.mend()
	s.note("%.75s", text)
	if wanted && !strings.Contains(text, "type=EOE") {
		s.lines[text]++
	}
	if s.r.IntN(25) == 0 {
		at := s.r.IntN(len(text))
		text, s.torn = text[:at], text[at:]
	}
	s.append(text)
}

func (s *logStory) mend() {
	if s.torn != "" {
		s.append(s.torn)
		s.torn = ""
	}
}

func (s *logStory) append(text string) {
	s.t.Helper()
	f, err := os.OpenFile(s.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// step is something that happens.
func (s *logStory) step() {
	r := s.r
	switch x := r.IntN(40); {
	case x < 16:
		s.begin()
	case x < 28:
		s.goOn()
	case x < 30 && strings.HasSuffix(s.log, "audit.log"):
		s.rotate()
	case x == 30 && len(s.open) == 0:
		s.ms += int64(r.IntN(10_000))
		s.note("time goes by")
	case x == 31 && r.IntN(3) == 0 && len(s.open) == 0:
		s.ms -= int64(r.IntN(3_600_000)) // its serials go on
		s.note("the clock is set back")
	case x == 32:
		s.search(s.calm(), true)
	default:
		s.search(r.IntN(4) == 0 && s.calm(), r.IntN(4) == 0)
	}
}

// calm says whether the log may be taken for one that is not written to.
func (s *logStory) calm() bool { return !s.whole || len(s.open) == 0 && s.torn == "" }

// begin begins an event.
func (s *logStory) begin() {
	r := s.r
	s.ms += int64(r.IntN(600))
	for len(s.open) > 0 && s.open[0].at < s.ms-900 {
		s.goOnWith(0)
	}
	s.serial++
	at := s.ms
	kind := r.IntN(5)
	if kind < 2 && r.IntN(5) == 0 {
		at -= int64(r.IntN(6000))
	}
	node := oneOf(r, "", "", "node=web1 ")
	head := fmt.Sprintf("msg=audit(%d.%03d:%d)", at/1000, at%1000, s.serial)
	key := oneOf(r, "k", "other")
	wanted := !s.key || key == "k"
	switch kind {
	case 0:
		s.line(fmt.Sprintf("%stype=USER_AUTH %s: pid=1 uid=0 auid=0 ses=1 msg='op=x res=success'\n", node, head), !s.key)
	case 1:
		s.line(node+"type=SYSCALL "+head+": "+strings.Replace(exampleCall, `key="k"`, `key="`+key+`"`, 1)+"\n", wanted)
	default:
		c := &openCall{key: key, at: at}
		for _, rec := range []string{"type=SYSCALL %s: " + strings.Replace(exampleCall, `key="k"`, `key="`+key+`"`, 1), `type=CWD %s: cwd="/"`, "type=PATH %s: item=0 name=2F", "type=PROCTITLE %s: proctitle=61", "type=EOE %s: "} {
			if !strings.Contains(rec, "type=SYSCALL") && !strings.Contains(rec, "PROCTITLE") && r.IntN(2) == 0 {
				continue
			}
			c.left = append(c.left, node+fmt.Sprintf(rec, head)+"\n")
		}
		s.open = append(s.open, c)
		s.goOn()
	}
}

// goOn writes the next record of a call that has begun.
func (s *logStory) goOn() {
	if len(s.open) > 0 {
		s.goOnWith(s.r.IntN(len(s.open)))
	}
}

func (s *logStory) goOnWith(i int) {
	c := s.open[i]
	s.line(c.left[0], !s.key || c.key == "k")
	if c.left = c.left[1:]; len(c.left) == 0 {
		s.open = slices.Delete(s.open, i, i+1)
	}
}

// rotate puts the log aside; at times an older one is compressed.
func (s *logStory) rotate() {
	if s.torn != "" {
		return
	}
	if _, err := os.Stat(s.log); err != nil {
		return
	}
	s.note("rotated")
	s.rotations++
	for n := 40; n >= 0; n-- {
		for _, suffix := range []string{"", ".gz"} {
			from, to := fmt.Sprintf("%s.%d%s", s.log, n, suffix), fmt.Sprintf("%s.%d%s", s.log, n+1, suffix)
			if n == 0 {
				from = s.log
			}
			if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
				s.t.Fatal(err)
			}
		}
	}
	name := fmt.Sprintf("%s.%d", s.log, 1+s.r.IntN(2))
	if text, err := os.ReadFile(name); err == nil && s.r.IntN(3) == 0 {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(text)
		_ = z.Close()
		if err := errors.Join(os.WriteFile(name+".gz", b.Bytes(), 0o600), os.Remove(name)); err != nil {
			s.t.Fatal(err)
		}
		s.note("%s is compressed", filepath.Base(name))
	}
	s.append("")
}

// search searches, at times with --just-one; a search that is killed leaves the file as it
// was.
func (s *logStory) search(quiet, killed bool) {
	s.t.Helper()
	if _, err := os.Stat(s.log); err != nil {
		return
	}
	input := s.log
	if strings.HasSuffix(s.log, "audit.log") {
		input = s.dir
	}
	args := []string{"-if", input, "-r", "--checkpoint", s.ck}
	if s.key {
		args = append(args, "-k", "k")
	}
	if s.r.IntN(4) == 0 {
		args = append(args, "--just-one")
	}
	env := busyEnv(s.t, s.log)
	if quiet {
		env = quietEnv(s.t, s.log)
	}
	before, err := os.ReadFile(s.ck)
	got := runOurs(env, args...)
	s.note("search quiet=%v killed=%v: %v, %q", quiet, killed, args[4:], got.out)
	if got.code > 1 || (got.code == 1) != (got.out == "") {
		s.t.Errorf("exit %d: %s", got.code, got.stderr)
	}
	if killed {
		if err != nil {
			err = os.RemoveAll(s.ck)
		} else {
			err = os.WriteFile(s.ck, before, 0o600)
		}
		if err != nil {
			s.t.Fatal(err)
		}
		return
	}
	for line := range strings.Lines(got.out) {
		if strings.Contains(line, "type=EOE") {
			continue
		}
		s.prints++
		if s.lines[line]--; s.lines[line] < 0 {
			s.t.Errorf("printed twice, or never written: %s", line)
		}
	}
	if strings.Contains(readFile(s.t, s.ck), "printed=") {
		s.early++
	}
}

// TestCheckpointOfLogModel prints each line once, whatever happens between the searches.
func TestCheckpointOfLogModel(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	prints, early, rotations := 0, 0, 0
	for round := range need.Rounds(300, 6) {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		s := &logStory{t: t, r: r, dir: t.TempDir(), ms: 1_700_000_000_000, lines: map[string]int{}, whole: true, key: r.IntN(3) == 0}
		s.log, s.ck = filepath.Join(s.dir, oneOf(r, "audit.log", "one")), filepath.Join(s.dir, "ck")
		for range 20 + r.IntN(120) {
			if s.step(); t.Failed() {
				break
			}
		}
		for len(s.open) > 0 {
			s.goOn()
		}
		s.mend()
		for empty := 0; empty < 3 && !t.Failed(); { // --just-one, too
			before := s.prints
			if s.search(true, false); s.prints == before {
				empty++
			}
		}
		for line, n := range s.lines {
			if n > 0 && !t.Failed() {
				t.Errorf("never printed: %s", line)
			}
		}
		if t.Failed() {
			t.Fatalf("round %d (AUDITFLEET_SEED=%d):\n%s", round, seed, s.tell)
		}
		prints, early, rotations = prints+s.prints, early+s.early, rotations+s.rotations
	}
	t.Logf("%d lines printed, %d searches had printed early, %d rotations", prints, early, rotations)
	if early == 0 || rotations == 0 {
		t.Error("nothing was printed early, or nothing rotated")
	}
}

// busyEnv is a moment at which a log was just written to.
func busyEnv(t *testing.T, log string) Env { return envAfter(t, log, 0) }

// quietEnv is one at which it was not for an hour.
func quietEnv(t *testing.T, log string) Env { return envAfter(t, log, time.Hour) }

func envAfter(t *testing.T, log string, d time.Duration) Env {
	t.Helper()
	info, err := os.Stat(log)
	if err != nil {
		t.Fatal(err)
	}
	env := utcEnv
	env.Now = info.ModTime().Add(d)
	return env
}

// TestCheckpointLateEvent prints an event that is older and comes after what was printed
// early; an event that got more records comes again, whole, and one that got its EOE does
// not.
func TestCheckpointLateEvent(t *testing.T) {
	title := func(line string) string {
		head, _, _ := strings.Cut(line, ": ")
		return strings.Replace(head, "SYSCALL", "PROCTITLE", 1) + ": proctitle=61\n"
	}
	old, late, young := callAt(1700000000, 1, "k"), callAt(1700000001, 2, "late"), callAt(1700000001, 3, "k")
	log := writeLog(t, old+title(old)+young+title(young))
	args := []string{"-if", log, "-r", "--checkpoint", filepath.Join(t.TempDir(), "ck")}
	for i, step := range []struct {
		add, want string
		quiet     bool
	}{
		{want: old + title(old) + young + title(young)},
		{add: late},
		{add: title(late), want: late + title(late)},
		{add: strings.Replace(title(late), "PROCTITLE", "EOE", 1)},
		{add: callAt(1700000002, 4, "k")},
		{quiet: true, want: callAt(1700000002, 4, "k")},
		{add: title(callAt(1700000002, 4, "k")), want: callAt(1700000002, 4, "k") + title(callAt(1700000002, 4, "k"))},
		{add: callAt(1700000012, 5, "k")},
		{quiet: true, want: callAt(1700000012, 5, "k")},
		{quiet: true},
	} {
		writeFile(t, log, readFile(t, log)+step.add)
		env := busyEnv(t, log)
		if step.quiet {
			env = quietEnv(t, log)
		}
		if got := runOurs(env, args...); got.out != step.want {
			t.Fatalf("step %d: %+v, want %q", i, got, step.want)
		}
	}
}

// A time of writing in the future is one before the clock was set back: the log is quiet.
func TestCheckpointClockSetBack(t *testing.T) {
	log := writeLog(t, callAt(1700000000, 1, "k"))
	args := []string{"-if", log, "-r", "--checkpoint", filepath.Join(t.TempDir(), "ck")}
	if got := runOurs(envAfter(t, log, -time.Second), args...); got.code != 1 {
		t.Errorf("just written: %+v", got)
	}
	if got := runOurs(envAfter(t, log, -time.Hour), args...); got.out != callAt(1700000000, 1, "k") {
		t.Errorf("written in the future: %+v", got)
	}
}

// A log that was written twice is printed twice, and then no more.
func TestCheckpointDoubledLog(t *testing.T) {
	text := callAt(1700000000, 1, "k") + callAt(1700000010, 2, "k") + callAt(1700000020, 3, "k")
	log := writeLog(t, text+text)
	args := []string{"-if", log, "-r", "--checkpoint", filepath.Join(t.TempDir(), "ck")}
	lines := 0
	for range 4 {
		lines += strings.Count(runOurs(quietEnv(t, log), args...).out, "\n")
	}
	if lines != 6 {
		t.Errorf("%d lines printed of 6", lines)
	}
}

// What cannot be what this program has written behind an inode is refused, and stays.
func TestCheckpointWordsRefused(t *testing.T) {
	log := writeLog(t, callAt(1700000000, 1, "k"))
	ck := filepath.Join(t.TempDir(), "ck")
	digits := strings.Repeat("0f", 16)
	end := "output=- 1700000000.000:1 0x514\n"
	for _, text := range []string{
		"inode=2 what\n" + end, "inode=2  events=1\n" + end, "inode=2 \tevents=1\n" + end, "inode=2 events=-1\n" + end, "inode=2 events=x\n" + end, "inode=2 first=\n" + end, "inode=2 first=00\n" + end,
		"inode=2 first=" + strings.Repeat("00", 16) + "\n" + end, "inode=2 printed=\n" + end, "inode=2 printed=" + digits + ",\n" + end, "inode=2 printed=" + digits[1:] + "g\n" + end,
		"inode=2 printed=" + digits + "\n", "inode=2 events=1\n" + strings.TrimSuffix(end, "\n"), "inode=2 events=1\n" + end[:20],
	} {
		text = "dev=0x1\n" + text
		writeFile(t, ck, text)
		if got := runOurs(utcEnv, "-if", log, "-r", "--checkpoint", ck); got.code != codeInvalid || got.out != "" || got.stderr == "" {
			t.Errorf("%q: %+v", text, got)
		}
		if readFile(t, ck) != text {
			t.Errorf("%q was overwritten", text)
		}
	}
}
