package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// handled is a store of two days with one event each, and a journal of four segments
// with a record each, which the store does not have: days/journal are its files.
func handled(t *testing.T) (dir string, days, segments []string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "st")
	st, err := engine.Open(engine.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i := range 2 {
		tab := store.NewTable()
		addEvent(tab, fmt.Sprintf("node=day%d type=USER_LOGIN msg=audit(%d.001:%d): pid=1 res=success", i, now.Unix()-int64(10-i), i+1))
		if err := st.Append(context.Background(), &store.Batch{ID: uint64(i + 1), Day: store.DayOf(now) + store.Day(i-1), Events: tab}); err != nil {
			t.Fatal(err)
		}
	}
	j, _, err := journal.Open(journal.Options{Dir: filepath.Join(dir, "journal"), SegmentBytes: 1, ID: st.ID(), Known: st.Journal(),
		Changed: func(k seglog.Known, _ []seglog.Damage) error { return st.KeepJournal(k, nil) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Start(journal.Resume{}, func(*journal.Batch) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		raw := fmt.Sprintf("node=j%d type=USER_LOGIN msg=audit(%d.002:%d): pid=1 res=%s", i, now.Unix(), 10+i, strings.Repeat("x", 6000))
		done := make(chan error, 1)
		b := &journal.Batch{Received: now, Records: []journal.Record{{Raw: []byte(raw)}}}
		if err := j.Submit(context.Background(), b, func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	days, _ = filepath.Glob(filepath.Join(dir, "partitions/*.db"))
	segments, _ = filepath.Glob(filepath.Join(dir, "journal/*.seg"))
	if len(days) != 2 || len(segments) != 4 {
		t.Fatal(days, segments)
	}
	return dir, days, segments
}

func addEvent(tab *store.Table, raw string) {
	asm := event.NewAssembler(event.Config{}, func(ev *event.Event) { tab.Add(string(ev.Records[0].Node), ev) })
	var r record.Record
	store.ParseRecord(&r, []byte(raw), nil)
	asm.Add(&r, 0, time.Now())
	asm.Flush()
}

// run is the program with args; it returns what it printed and its exit code.
func runProgram(args ...string) (out, errs string, code int) {
	var files [2]*os.File
	var texts [2]bytes.Buffer
	done := make(chan struct{}, 2)
	for i := range files {
		r, w, err := os.Pipe()
		if err != nil {
			return "", err.Error(), -1
		}
		files[i] = w
		go func() {
			_, _ = io.Copy(&texts[i], r)
			_ = r.Close()
			done <- struct{}{}
		}()
	}
	code = Run(context.Background(), "v-test", append([]string{"collector"}, args...), Stdio{os.Stdin, files[0], files[1]})
	for _, f := range files {
		_ = f.Close()
	}
	<-done
	<-done
	return texts[0].String(), texts[1].String(), code
}

// Each thing that hands do to a store's files: what verify says (exit code 1), what a
// search says and that it answers all the same, and that serve starts, says it and
// has it in /readyz.
func TestHandsOnFiles(t *testing.T) {
	t.Parallel()
	swap := func(a, b string) error {
		x := a + "x"
		for _, m := range [][2]string{{a, x}, {b, a}, {x, b}} {
			if err := os.Rename(m[0], m[1]); err != nil {
				return err
			}
		}
		return nil
	}
	cp := func(from, to string) error {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o600)
	}
	for _, c := range []struct {
		name   string
		do     func(days, segments []string) error
		verify string // a part of a damage line
		search string // a part of what the search says; "": it says nothing
		lost   string // nodes that are not found
	}{
		{"segments swapped", func(_, s []string) error { return swap(s[0], s[1]) }, "swapped", "", ""},
		{"a segment doubled", func(_, s []string) error {
			return cp(s[1], filepath.Join(filepath.Dir(s[1]), fmt.Sprintf("%020d-%010d.seg", 90, 90)))
		}, "doubled", "", ""},
		{"a segment cut", func(_, s []string) error { return os.Truncate(s[1], 5000) }, "cut", "entries 2 to 2 are lost", "j1"},
		{"a segment deleted", func(_, s []string) error { return os.Remove(s[1]) }, "a segment is missing", "entries 2 to 2 are lost", "j1"},
		{"the last segment deleted", func(_, s []string) error { return os.Remove(s[3]) }, "a segment is missing", "entries 4 to 4 are lost", "j3"},
		{"the oldest segment deleted", func(_, s []string) error { return os.Remove(s[0]) }, "a segment is missing", "entries 1 to 1 are lost", "j0"},
		{"the journal deleted", func(_, s []string) error { return os.RemoveAll(filepath.Dir(s[0])) }, "a segment is missing", "entries 1 to 4 are lost", "j0 j1 j2 j3"},
		{"a segment of another store", func(_, s []string) error {
			_, _, o := handled(t)
			return cp(o[1], s[1])
		}, "foreign", "entries 2 to 2 are lost", "j1"},
		{"another program's file", func(_, s []string) error { return cp("hands_test.go", s[1]) }, "foreign", "entries 2 to 2 are lost", "j1"},
		{"the oldest partition deleted", func(d, _ []string) error { return os.Remove(d[0]) }, "missing: it was deleted", "is missing", "day0"},
		{"a partition of another store", func(d, _ []string) error {
			_, o, _ := handled(t)
			return cp(o[0], d[0])
		}, "foreign", "foreign: it is of the store", "day0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, days, segments := handled(t)
			if err := c.do(days, segments); err != nil {
				t.Fatal(err)
			}
			if out, errs, code := runProgram("verify", "--store", dir); code != exitDamage || !strings.Contains(out, c.verify) {
				t.Errorf("verify: exit %d, want %q in\n%s%s", code, c.verify, out, errs)
			}
			search := func(when string) {
				t.Helper()
				out, errs, _ := runProgram("search", "--store", dir, "-m", "USER_LOGIN", "--raw")
				for _, node := range []string{"day0", "day1", "j0", "j1", "j2", "j3"} {
					if lost := strings.Contains(c.lost, node); strings.Contains(out, "node="+node+" ") == lost {
						t.Errorf("%s: %s: lost are %q:\n%.2000s", when, node, c.lost, errs)
					}
				}
				if c.search == "" && strings.Contains(errs, "damaged") || !strings.Contains(errs, c.search) {
					t.Errorf("%s says %q, want %q", when, errs, c.search)
				}
			}
			search("a search before the start")
			serveOnce(t, dir, c.search)
			search("a search after a start")
		})
	}
}

// serveOnce starts a collector on the store and ends it; /readyz is 200 and says want.
func serveOnce(t *testing.T, dir, want string) {
	t.Helper()
	sock, err := os.MkdirTemp("", "af")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(sock)
	var log bytes.Buffer
	s, err := server.Open(server.Config{Store: dir, API: filepath.Join(sock, "s"), Listen: []string{"127.0.0.1:0"}, HTTP: "127.0.0.1:0", Node: "hub",
		Log: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Warn})})
	if err != nil {
		t.Fatalf("serve does not start: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, context.Background()) }()
	deadline := time.Now().Add(time.Minute)
	for {
		resp, err := http.Get("http://" + s.HTTPAddr().String() + "/readyz")
		if err == nil {
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				if got := string(body); (want != "") != strings.Contains(got, "degraded: ") || !strings.Contains(got, want) {
					t.Errorf("readyz: %q, want %q", got, want)
				}
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("never ready: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
	if want != "" && log.Len() == 0 {
		t.Error("serve logs nothing of it")
	}
}
