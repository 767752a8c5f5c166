package terminal

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/internal/need"
)

// asUser makes the test binary a program that pages a line.
const asUser = "AUDITFLEET_TEST_PAGES"

func asUserMain() {
	_, s := Open(context.Background(), os.Stdout, io.Discard, Options{Pager: true})
	fmt.Fprintln(s.Out, "line")
	_ = s.Close()
}

// program is a copy of this test that anybody may start.
func program(t *testing.T, mode os.FileMode, gid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "pages-") // not below a folder of t's, which is its user's only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "pages")
	for _, err := range []error{os.Chmod(dir, 0o755), need.Program(path, self, 0o700), os.Chown(path, 0, gid), os.Chmod(path, mode)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// A pager of the user's choice is a shell: it must not get what the user hasn't.
func TestNoPagerWithMoreRights(t *testing.T) {
	need.Root(t)
	const nobody = 65534
	user := &syscall.Credential{Uid: nobody, Gid: nobody}
	plain := program(t, 0o755, 0)
	for name, c := range map[string]struct {
		path  string
		attr  syscall.SysProcAttr
		env   string
		paged bool
	}{
		"the user's own":  {path: plain, attr: syscall.SysProcAttr{Credential: user}, paged: true},
		"root's own":      {path: plain, paged: true},
		"sudo":            {path: plain, env: "SUDO_UID=1000"},
		"sudo to another": {path: plain, attr: syscall.SysProcAttr{Credential: user}, env: "SUDO_UID=1000"},
		"doas":            {path: plain, env: "DOAS_USER=carla"},
		"pkexec":          {path: plain, env: "PKEXEC_UID=1000"},
		"set-user-ID":     {path: program(t, 0o755|os.ModeSetuid, 0), attr: syscall.SysProcAttr{Credential: user}},
		"set-group-ID":    {path: program(t, 0o755|os.ModeSetgid, 4), attr: syscall.SysProcAttr{Credential: user}},
		"a capability":    {path: plain, attr: syscall.SysProcAttr{Credential: user, AmbientCaps: []uintptr{unix.CAP_AUDIT_READ}}},
	} {
		tty, end := need.Terminal(t, 80)
		cmd := exec.Command(c.path)
		cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
			name, _, _ := strings.Cut(v, "=")
			return slices.Contains(raisers, name)
		})
		cmd.Env = append(cmd.Env, asUser+"=1", "PAGER=sed s/^/paged:/", "TERM=xterm", c.env)
		cmd.Stdin, cmd.Stdout, cmd.SysProcAttr = tty, tty, &c.attr
		if err := cmd.Run(); err != nil {
			t.Fatal(name, err)
		}
		want := "line\n"
		if c.paged {
			want = "paged:line\n"
		}
		if got := end(); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// What a pager is told is ours: no program, log or history of the environment.
func TestPagerEnvironment(t *testing.T) {
	for _, v := range []string{"LESSOPEN=|id %s", "LESS=-o/tmp/log", "LESSSECURE=0", "LESSKEY=/tmp/keys", "LESSHISTFILE=/tmp/history", "LESSEDIT=id"} {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	tty, end := need.Terminal(t, 80)
	_, s := Open(t.Context(), tty, io.Discard, Options{Pager: true, Getenv: env("PAGER", "env | grep -E '^(LESS|PAGERSECURE)' | sort")})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := end(); got != "LESS=FRX\nLESSCHARSET=utf-8\nLESSHISTFILE=-\nLESSSECURE=1\nPAGERSECURE=1\n" {
		t.Errorf("%q", got)
	}
	// Without a $PAGER it is less, which is told as little as it needs.
	dir := t.TempDir()
	if err := need.Program(filepath.Join(dir, "less"), []byte("#!/bin/sh\nexport -p\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Setenv("VISUAL", "id")
	t.Setenv("HOME", "/tmp")
	tty, end = need.Terminal(t, 80)
	_, s = Open(t.Context(), tty, io.Discard, Options{Pager: true, Getenv: env()})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := end()
	if !strings.Contains(got, "LESSSECURE='1'") || !strings.Contains(got, "LESSHISTFILE='-'") {
		t.Errorf("%q", got)
	}
	for _, not := range []string{"LESSOPEN", "VISUAL", "HOME", "/tmp/log", "LESSKEY"} {
		if strings.Contains(got, not) {
			t.Errorf("less is told %s: %q", not, got)
		}
	}
}
