package logscan

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// What was put aside and compressed is read as well where following begins at a time, and
// damage there is told at once; the log goes on.
func TestFollowPackedLogs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	whole := pack(t, "x.gz", []byte(login(3)+login(4)))
	for name, data := range map[string][]byte{
		path + ".3.zst": pack(t, "x.zst", []byte(login(1)+login(2))), path + ".2.gz": whole[:len(whole)-6], path + ".1": []byte(login(5)), path: []byte(login(6)),
	} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var damaged []string
		f := &followed{t: t, done: make(chan error, 1)}
		src := &Source{Input: Input{LogFile: path, Logs: true}, EOETimeout: time.Second, Damaged: func(err error) { damaged = append(damaged, err.Error()) }}
		ctx, cancel := context.WithCancel(t.Context())
		f.cancel = cancel
		go func() { f.done <- src.Follow(ctx, &query.Query{StartMs: 1}, f.event, nil) }()
		f.got("all", 1, 2, 3, 4, 5, 6)
		appendTo(t, path, login(7))
		f.got("what came then", 7)
		f.end()
		if len(damaged) != 1 || !strings.Contains(damaged[0], path+".2.gz: damaged") {
			t.Errorf("%q", damaged)
		}
	})
	src := &Source{Input: Input{Path: path + ".3.zst"}}
	if err := src.Follow(t.Context(), &query.Query{}, func(*event.Event) error { return nil }, nil); err == nil || !strings.Contains(err.Error(), "without --follow") {
		t.Errorf("a compressed log: %v", err)
	}
}

// The rest of an overlong line is told, as a search does, whether it comes at once or in
// pieces; what is behind it is read.
func TestFollowOverlongLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	appendTo(t, path, login(1))
	long := strings.Replace(strings.TrimSuffix(login(2), "\n"), "USER_LOGIN", "USER_START", 1) + " x=" + strings.Repeat("y", 2*maxLine) + "\n"
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, path, time.Second, &query.Query{})
		appendTo(t, path, long+login(3))
		f.got("at once", 2, 3)
		for rest := strings.ReplaceAll(long, ":2)", ":4)"); rest != ""; {
			n := min(len(rest), 3000)
			appendTo(t, path, rest[:n])
			rest = rest[n:]
			f.step()
		}
		appendTo(t, path, login(5))
		f.got("in pieces", 4, 5)
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.skipped) != 2 || slices.ContainsFunc(f.skipped, func(s string) bool { return !strings.HasPrefix(s, "yyy") }) {
			t.Errorf("told: %.100q", f.skipped)
		}
		f.cancel()
		<-f.done
	})
}
