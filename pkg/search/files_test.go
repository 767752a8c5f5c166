package search

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// logFolder lays a log out as rotation leaves it: the oldest in the file with
// the highest number. An event reaches over from one file to the next.
func logFolder(t *testing.T) (dir string, whole []byte) {
	t.Helper()
	b, err := os.ReadFile("testdata/kernel-raw.log")
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	dir = t.TempDir()
	for i, name := range []string{"audit.log.2", "audit.log.1", "audit.log"} {
		from, to := len(lines)*i/3, len(lines)*(i+1)/3
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Join(lines[from:to], nil), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, b
}

func TestFolder(t *testing.T) {
	bin := need.Stock(t, "ausearch")
	dir, _ := logFolder(t)
	for _, args := range [][]string{{"-if", dir, "-r"}, {"-if", dir, "-k", "opens"}, {"-if", dir + "/", "-m", "NETFILTER_PKT"}} {
		stock, ours := runStock(t, bin, nil, args...), runOurs(utcEnv, args...)
		stock.stderr = strings.ReplaceAll(stock.stderr, "//", "/")
		if stock != ours {
			t.Errorf("%q: exit %d, %d bytes, %q; want exit %d, %d bytes, %q", args, ours.code, len(ours.out), ours.stderr,
				stock.code, len(stock.out), stock.stderr)
		}
	}
	empty := t.TempDir()
	if r := runOurs(utcEnv, "-if", empty, "-r"); r.code != 1 || !strings.Contains(r.stderr, "Error opening "+empty) {
		t.Errorf("folder without a log: exit %d, %q", r.code, r.stderr)
	}
}

func TestLocalLog(t *testing.T) {
	dir, whole := logFolder(t)
	var out, errb bytes.Buffer
	code := ours(t.Context(), []string{"-r"}, utcEnv, filepath.Join(dir, "audit.log"), Stdio{Out: &out, Err: &errb})
	if code != 0 || !bytes.Equal(out.Bytes(), whole) {
		t.Errorf("exit %d, %d bytes of %d, %s", code, out.Len(), len(whole), errb.String())
	}
}

// TestPipe checks that standard input is read when it is a pipe, that a silent
// pipe does not keep back what has come, and that --input-logs overrides it.
func TestPipe(t *testing.T) {
	t.Parallel()
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer w.Close()
	found := make(chan string, 10)
	done := make(chan int, 1)
	stdio := Stdio{In: in, Out: lineChan(found), Err: &bytes.Buffer{}}
	go func() { done <- ours(t.Context(), []string{"-r", "-l"}, utcEnv, "/nonexistent", stdio) }()
	line := stamped("SYSCALL", exampleCall)
	if _, err := w.WriteString(line + "\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-found:
		if got != line+"\n" {
			t.Errorf("%q", got)
		}
	case <-time.After(time.Minute):
		t.Error("a silent pipe keeps its event")
	}
	w.Close()
	if code := <-done; code != 0 {
		t.Errorf("exit %d", code)
	}
	stdio.Out = &bytes.Buffer{}
	if code := ours(t.Context(), []string{"-r", "--input-logs"}, utcEnv, "/nonexistent", stdio); code != 1 {
		t.Errorf("--input-logs read the pipe: exit %d", code)
	}
}

type lineChan chan string

func (c lineChan) Write(p []byte) (int, error) {
	c <- string(p)
	return len(p), nil
}

func TestUsage(t *testing.T) {
	if r := runOurs(utcEnv, "-if", "testdata/types.log", "-i", "-m", "KERN_MODULE"); r.code != 0 || !strings.Contains(r.out, "syscall=finit_module success=yes") {
		t.Errorf("-i: exit %d, %q", r.code, r.out)
	}
	// Every option that the help names is one, and the other way round.
	for _, name := range strings.FieldsFunc(Usage, func(c rune) bool { return strings.ContainsRune(" ,\n()", c) }) {
		if strings.HasPrefix(name, "-") && len(name) > 1 && !isDigit(name[1:]) && name != "-EACCES" {
			if _, ok := canonical(strings.TrimRight(name, ":;")); !ok {
				t.Errorf("the help names %q, which is no option", name)
			}
		}
	}
}

// TestEscape compares the modes of --escape on a record with all that matters.
func TestEscape(t *testing.T) {
	bin := need.Stock(t, "ausearch")
	var all []byte
	for c := 1; c < 256; c++ {
		if c != '\n' && c != 0x1d {
			all = append(all, byte(c))
		}
	}
	path := filepath.Join(t.TempDir(), "x.log")
	log := stamped("USER_CMD", "pid=1 uid=0 auid=0 ses=1 msg='x="+string(all)+"'") + "\n" + stamped("USER_CMD", "pid=1 msg='plain'") + "\n"
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"raw", "tty", "shell", "shell_quote"} {
		args := []string{"-if", path, "--escape", mode, "-m", "ALL"}
		stock, ours := runStock(t, bin, nil, args...), runOurs(utcEnv, args...)
		if stock != ours {
			t.Errorf("%s:\n got %q\nwant %q", mode, ours.out, stock.out)
		}
	}
}
