package terminal

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// page starts the pager; without one that can be started nothing changes.
//
// A pager runs whatever the user tells it to (less has "!", "v" and "|"), so it must
// never have more rights than the user: with raised rights there is none.
func (s *Screen) page(ctx context.Context, out, errw io.Writer, getenv func(string) string) context.Context {
	words := getenv("PAGER")
	if words == "cat" || getenv("TERM") == "dumb" || raised(getenv) {
		return ctx
	}
	cmd := exec.Command("/bin/sh", "-c", words)
	cmd.Env = os.Environ()
	if words == "" {
		less, err := exec.LookPath("less")
		if err != nil {
			return ctx
		}
		cmd = exec.Command(less)
		cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return !ofLess(v) })
	}
	cmd.Env = pagerEnv(cmd.Env)
	cmd.Stdout = out
	if f, ok := File(errw); ok { // else two would write to it
		cmd.Stderr = f
	}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return ctx
	}
	if err := cmd.Start(); err != nil {
		return ctx
	}
	s.ctx, s.end = signal.NotifyContext(ctx, os.Interrupt)
	s.pager, s.pipe, s.Out, s.Err = cmd, pipe, &paged{s, pipe}, &paged{s, errw}
	return s.ctx
}

// ofLess says whether less is given a variable of the environment: what the terminal
// is, and nothing that names a program or a file to write.
func ofLess(v string) bool {
	name, _, _ := strings.Cut(v, "=")
	switch name {
	case "TERM", "TERMINFO", "TERMINFO_DIRS", "COLORTERM", "LINES", "COLUMNS", "LANG", "PATH":
		return true
	}
	return strings.HasPrefix(name, "LC_")
}

// pagerEnv replaces what less is told by its own variables: LESSOPEN, LESSCLOSE and
// LESSEDIT are programs, LESSKEY and LESSHISTFILE files, and LESS can name a log.
func pagerEnv(env []string) []string {
	env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "LESS") || strings.HasPrefix(v, "PAGERSECURE=") })
	return append(env,
		"LESS=FRX",          // not for less than a screen; colours; what was seen stays
		"LESSCHARSET=utf-8", // names are mostly UTF-8, whatever the locale
		"LESSHISTFILE=-", "LESSSECURE=1", "PAGERSECURE=1")
}

// paged writes to w until the user has left the pager; after that it discards what is
// written and reports success.
type paged struct {
	s *Screen
	w io.Writer
}

func (p *paged) Write(b []byte) (int, error) {
	if p.s.Left() {
		return len(b), nil
	}
	n, err := p.w.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		p.s.end()
		return len(b), nil
	}
	return n, err
}
