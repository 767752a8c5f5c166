package importer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/importing"
	"github.com/auditfleet/auditfleet/pkg/oldlogs"
	"github.com/auditfleet/auditfleet/pkg/query"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector is a head with its journal and store.
type collector struct {
	*head.Head
	t     *testing.T
	dir   string
	store *bolt.Store
	j     *journal.Journal
	// reread has imports read again what the store knows.
	reread bool
}

func newCollector(t *testing.T) *collector {
	c := &collector{t: t, dir: t.TempDir()}
	c.open()
	t.Cleanup(c.close)
	return c
}

func (c *collector) open() {
	c.t.Helper()
	var err error
	if c.store, err = bolt.Open(bolt.Options{Dir: c.dir}); err != nil {
		c.t.Fatal(err)
	}
	if c.j, _, err = journal.Open(journal.Options{Dir: filepath.Join(c.dir, "journal"), ID: c.store.ID(), Known: c.store.Journal()}); err != nil {
		c.t.Fatal(err)
	}
	if c.Head, err = head.Open(head.Options{Journal: c.j, Place: c.store, Events: c.store}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *collector) close() {
	c.t.Helper()
	for _, f := range []func() error{c.Head.Close, c.j.Close, c.store.Close} {
		if err := f(); err != nil {
			c.t.Error(err)
		}
	}
}

// imports imports paths under a name.
func (c *collector) imports(name string, o Config, paths ...string) importing.Sum {
	c.t.Helper()
	sum, err := c.try(c.t.Context(), name, o, paths...)
	if err != nil {
		c.t.Fatal(err)
	}
	return sum
}

// once imports a text, a file of its own, and compares how many of its records are stored.
func (c *collector) once(why, text string, records, stored int64) {
	c.t.Helper()
	wantSum(c.t, why, c.imports("one", Config{}, write(c.t, filepath.Join(c.t.TempDir(), "log"), text)), 1, records, stored)
}

func (c *collector) try(ctx context.Context, name string, o Config, paths ...string) (importing.Sum, error) {
	c.t.Helper()
	set, err := oldlogs.Find(c.t.Context(), oldlogs.Config{Paths: paths, Node: "web1"})
	if err != nil {
		c.t.Fatal(err)
	}
	if o.Target == nil {
		o.Target = c.Head
	}
	o.Name = name
	s, err := Begin(c.t.Context(), o)
	if err != nil {
		c.t.Fatal(err)
	}
	return importing.Read(ctx, set, s, importing.Config{ChunkBytes: o.compareBytes / 2, Reread: c.reread})
}

// stored returns the text of all records of a host, in order.
func (c *collector) stored(host string) (out []string) {
	c.t.Helper()
	q := &query.Query{}
	if host != "" {
		q.Nodes = []string{host}
	}
	err := c.Scan(context.Background(), q, func(ev *event.Event) error {
		for i := range ev.Records {
			out = append(out, string(ev.Records[i].Raw))
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// events returns lines of so many events, from a serial on.
func events(from, n int) string {
	var b strings.Builder
	for i := from; i < from+n; i++ {
		stamp := fmt.Sprintf("audit(%d.%03d:%d)", 1764000000+i/10, i%1000, i)
		fmt.Fprintf(&b, "type=SYSCALL msg=%s: arch=c000003e syscall=59 success=yes exit=0 pid=%d comm=\"a\"\ntype=CWD msg=%s: cwd=\"/\"\ntype=PROCTITLE msg=%s: proctitle=61\n", stamp, i, stamp, stamp)
	}
	return b.String()
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantSum(t *testing.T, why string, got importing.Sum, files, records, stored int64) {
	t.Helper()
	if want := (importing.Sum{Files: files, Records: records, Stored: stored, Skipped: records - stored}); got != want {
		t.Errorf("%s: %+v, want %+v", why, got, want)
	}
}

// TestOnce imports files again, under other names, grown, overlapping and doubled.
func TestOnce(t *testing.T) {
	t.Parallel()
	c, dir := newCollector(t), t.TempDir()
	o := Config{}
	a := write(t, filepath.Join(dir, "a"), events(0, 100))
	wantSum(t, "new", c.imports("one", o, a), 1, 300, 300)
	wantSum(t, "again", c.imports("one", o, a), 1, 300, 0)
	wantSum(t, "again, under another name", c.imports("two", o, a), 1, 300, 0)
	b := write(t, filepath.Join(dir, "b"), events(0, 100))
	wantSum(t, "a copy", c.imports("two", o, a, b), 2, 600, 0)
	write(t, a, events(0, 120))
	wantSum(t, "grown", c.imports("two", o, a), 1, 360, 60)
	over := write(t, filepath.Join(dir, "over"), events(50, 100))
	wantSum(t, "overlapping", c.imports("two", o, over), 1, 300, 90)
	if n := len(c.stored("web1")); n != 450 {
		t.Errorf("%d records are stored, want 450", n)
	}
	twice := write(t, filepath.Join(dir, "twice"), events(0, 100)+events(0, 100))
	wantSum(t, "doubled", c.imports("two", o, twice), 1, 600, 300)
	thrice := write(t, filepath.Join(dir, "thrice"), events(1000, 10)+events(1000, 10)+events(1000, 10))
	wantSum(t, "thrice", c.imports("two", o, thrice), 1, 90, 90)
	wantSum(t, "thrice again", c.imports("three", o, thrice), 1, 90, 0)
	c.close()
	c.open()
	wantSum(t, "after a start", c.imports("three", o, dir), 5, 360+300+300+600+90, 0)
}
