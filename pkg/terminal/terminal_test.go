package terminal

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/internal/need"
)

func TestMain(m *testing.M) {
	if os.Getenv(asUser) != "" {
		asUserMain()
		return
	}
	goleak.VerifyTestMain(m)
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestColor(t *testing.T) {
	tty, _ := need.Terminal(t, 80)
	var file bytes.Buffer
	for _, c := range []struct {
		out   io.Writer
		color string
		env   []string
		want  bool
	}{
		{tty, "", nil, true},
		{tty, "auto", nil, true},
		{tty, "never", nil, false},
		{tty, "auto", []string{"NO_COLOR", "1"}, false},
		{tty, "always", []string{"NO_COLOR", "1"}, true},
		{tty, "auto", []string{"TERM", "dumb"}, false},
		{&file, "auto", nil, false},
		{&file, "always", nil, true},
	} {
		_, s := Open(t.Context(), c.out, io.Discard, Options{Color: c.color, Getenv: env(c.env...)})
		if s.Color != c.want || s.People != (c.out == io.Writer(tty)) {
			t.Errorf("%T %q %v: colour %v, people %v", c.out, c.color, c.env, s.Color, s.People)
		}
		if Bare(s.Out) != c.out {
			t.Errorf("%T %q: something is between", c.out, c.color)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestPager(t *testing.T) {
	tty, end := need.Terminal(t, 80)
	ctx, s := Open(t.Context(), tty, io.Discard, Options{Pager: true, Getenv: env("PAGER", "sed s/^/paged:/")})
	if ctx.Err() != nil {
		t.Fatal(ctx.Err())
	}
	fmt.Fprint(s.Out, "one\ntwo\n")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // again
		t.Fatal(err)
	}
	if s.Left() { // else the command's exit code would not be its own
		t.Error("who has read all of it has not left")
	}
	if got := end(); got != "paged:one\npaged:two\n" {
		t.Errorf("%q", got)
	}
}

// One who leaves the pager has seen enough.
func TestPagerIsLeft(t *testing.T) {
	tty, end := need.Terminal(t, 80)
	var complaints bytes.Buffer
	ctx, s := Open(t.Context(), tty, &complaints, Options{Pager: true, Getenv: env("PAGER", "head -n 1; exit 3")})
	fmt.Fprint(s.Err, "before")
	for i := 0; ctx.Err() == nil; i++ {
		if _, err := fmt.Fprintln(s.Out, "line"); err != nil || i == 1e6 {
			t.Fatalf("line %d: %v", i, err)
		}
	}
	fmt.Fprint(s.Err, "after")
	if !s.Left() || complaints.String() != "before" {
		t.Errorf("left: %v, said: %q", s.Left(), complaints.String())
	}
	if err := s.Close(); err != nil || !s.Left() {
		t.Errorf("%v, left: %v", err, s.Left())
	}
	if got := end(); got != "line\n" {
		t.Errorf("%q", got)
	}
}

func TestNoPager(t *testing.T) {
	tty, _ := need.Terminal(t, 80)
	var file bytes.Buffer
	for _, c := range []struct {
		out   io.Writer
		pager bool
		env   []string
	}{
		{tty, false, []string{"PAGER", "more"}}, {tty, true, []string{"PAGER", "cat"}}, {tty, true, []string{"TERM", "dumb"}}, {&file, true, []string{"PAGER", "more"}},
		{tty, true, []string{"PAGER", "more", "SUDO_UID", "0"}}, {tty, true, []string{"SUDO_USER", "root"}}, {tty, true, []string{"DOAS_USER", "x"}}, {tty, true, []string{"PKEXEC_UID", "1000"}},
	} {
		_, s := Open(t.Context(), c.out, io.Discard, Options{Pager: c.pager, Getenv: env(c.env...)})
		if Bare(s.Out) != c.out {
			t.Errorf("%T %v %v: a pager", c.out, c.pager, c.env)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What takes longer than a second is said, and taken back before results.
func TestProgress(t *testing.T) {
	tty, end := need.Terminal(t, 80)
	synctest.Test(t, func(t *testing.T) {
		_, s := Open(t.Context(), tty, tty, Options{Doing: "searching", Color: "never", Getenv: env()})
		time.Sleep(progressAfter + 5*progressEvery/2)
		fmt.Fprintln(s.Out, "result")
		time.Sleep(2 * progressEvery)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
	got := end()
	if !strings.HasPrefix(got, "\rsearching ... 1s\x1b[K") || !strings.HasSuffix(got, "\r\x1b[Kresult\n") {
		t.Errorf("%q", got)
	}
	// Nothing of the kind into a file, or in less than a second.
	var file bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		_, s := Open(t.Context(), io.Discard, &file, Options{Doing: "searching", Getenv: env()})
		time.Sleep(progressAfter + progressEvery)
		if err := s.Close(); err != nil || file.Len() != 0 {
			t.Errorf("%v, %q", err, file.String())
		}
	})
	quick, endQuick := need.Terminal(t, 80)
	_, s := Open(t.Context(), io.Discard, quick, Options{Doing: "searching", Getenv: env()})
	if err := s.Close(); err != nil || endQuick() != "" {
		t.Errorf("%v, %q", err, endQuick())
	}
}

// A status line goes to a terminal only, shows no control character of the text, and
// is taken away.
func TestStatus(t *testing.T) {
	tty, end := need.Terminal(t, 80)
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan struct{}, 100)
		unshow := Status(Guard(tty), func() string { asked <- struct{}{}; return "half\x1b[2J" })
		<-asked
		<-asked // so the first was written
		unshow()
		unshow()
	})
	if got := end(); !strings.HasPrefix(got, "\r"+`half\033[2J`+"\x1b[K") || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("%q", got)
	}
	Status(io.Discard, func() string { t.Error("asked for nobody"); return "" })()
	Status(nil, nil)()
}
