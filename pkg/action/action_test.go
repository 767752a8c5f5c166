package action

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/syslog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script makes a program that says how it was called in the file said.
func script(t *testing.T, dir, name, extra string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	text := fmt.Sprintf("#!/bin/sh\n{ echo \"%s($*)\"; cat; } >>%s/said\n%s\n", name, dir, extra)
	if err := need.Program(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func said(t *testing.T, dir, want string) {
	t.Helper()
	var text []byte
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		text, _ = os.ReadFile(filepath.Join(dir, "said"))
		if strings.Contains(string(text), want) {
			return
		}
	}
	t.Fatalf("never said %q, but %q", want, text)
}

// messages are what syslog was sent.
type messages struct {
	mu   sync.Mutex
	list []string // guarded by mu
}

func (m *messages) write(p syslog.Priority, text []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = append(m.list, fmt.Sprintf("%d %s", p, text))
	return nil
}

func (m *messages) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.list...)
}

var low = Message{Condition: "space_left_action", Subject: "disk", Text: "space is low", Level: syslog.Alert}

func TestActions(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		action conf.Action
		syslog bool
		want   string
	}{
		{conf.Action{Do: conf.DoIgnore}, false, ""},
		{conf.Action{Do: conf.DoSyslog}, true, ""},
		{conf.Action{Do: conf.DoRotate}, true, ""},
		{conf.Action{Do: conf.DoSuspend}, true, ""},
		{conf.Action{Do: conf.DoEmail}, true, "sendmail(-t)\nTo: ops@example.org\nFrom: root\nSubject: "},
		{conf.Action{Do: conf.DoExec, Exec: script(t, dir, "clean", "")}, false, "clean()\n"},
		{conf.Action{Do: conf.DoSingle}, true, "init(1)\n"},
		{conf.Action{Do: conf.DoHalt}, true, "init(0)\n"},
	} {
		t.Run(string(c.action.Do), func(t *testing.T) {
			if err := os.RemoveAll(filepath.Join(dir, "said")); err != nil {
				t.Fatal(err)
			}
			var sys messages
			r := New(Config{
				Syslog: sys.write, MailTo: "ops@example.org", AllowHalt: true,
				Sendmail: script(t, dir, "sendmail", ""), Init: script(t, dir, "init", ""),
			})
			defer r.Close()
			if err := r.Check("space_left_action", c.action); err != nil {
				t.Fatal(err)
			}
			r.Do(c.action, low)
			if c.want != "" {
				said(t, dir, c.want)
			}
			r.wg.Wait()
			if got := len(sys.all()) == 1; got != c.syslog {
				t.Errorf("syslog: %q", sys.all())
			}
			if text, err := os.ReadFile(filepath.Join(dir, "said")); c.want == "" && err == nil {
				t.Errorf("a program ran: %s", text)
			}
		})
	}
}

// A host without a syslog has its actions done, and the log does not say they failed.
func TestNoSyslog(t *testing.T) {
	for do, want := range map[conf.Do]string{conf.DoSuspend: "syslog was not told", conf.DoRotate: "syslog was not told", conf.DoSyslog: "the action failed"} {
		var log bytes.Buffer
		r := New(Config{
			Log:    hclog.New(&hclog.LoggerOptions{Output: &log}),
			Syslog: func(syslog.Priority, []byte) error { return errors.New("nobody listens") },
		})
		r.Do(conf.Action{Do: do}, low)
		r.wg.Wait()
		r.Close()
		if text := log.String(); !strings.Contains(text, want) || (do != conf.DoSyslog && strings.Contains(text, "the action failed")) {
			t.Errorf("%s: %q in\n%s", do, want, text)
		}
	}
}

func TestCheck(t *testing.T) {
	r := New(Config{Sendmail: "/none/sendmail"})
	defer r.Close()
	for _, do := range []conf.Do{conf.DoSingle, conf.DoHalt} {
		err := r.Check("disk_full_action", conf.Action{Do: do})
		if !errors.Is(err, ErrHalt) || !strings.Contains(err.Error(), "--allow-halt") || !strings.Contains(err.Error(), "disk_full_action = "+string(do)) {
			t.Errorf("%s: %v", do, err)
		}
	}
	if err := r.Check("space_left_action", conf.Action{Do: conf.DoEmail}); !errors.Is(err, ErrMail) {
		t.Errorf("email without sendmail: %v", err)
	}
}

// What was not allowed is not done, even when nobody asked Check.
func TestHaltNotAllowed(t *testing.T) {
	dir := t.TempDir()
	var log strings.Builder
	r := New(Config{Init: script(t, dir, "init", ""), Log: hclog.New(&hclog.LoggerOptions{Output: &log})})
	r.Do(conf.Action{Do: conf.DoHalt}, low)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "said")); err == nil || !strings.Contains(log.String(), "not allowed") {
		t.Errorf("init ran: %v; log %s", err == nil, &log)
	}
}

// A program that does not end is not started again beside itself, and Close ends
// it with its children.
func TestProgramThatHangs(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	var log strings.Builder
	r := New(Config{Log: hclog.New(&hclog.LoggerOptions{Output: &log, Mutex: &mu})})
	hang := conf.Action{Do: conf.DoExec, Exec: script(t, dir, "hang", "sleep 1000")}
	r.Do(hang, low)
	said(t, dir, "hang()")
	r.Do(hang, low)
	if err := r.Close(); err != nil { // one that waited for the program would not return
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "said")); strings.Count(string(text), "hang()") != 1 {
		t.Errorf("it ran twice: %s", text)
	}
	if !strings.Contains(log.String(), "still runs") {
		t.Errorf("log: %s", &log)
	}
}
