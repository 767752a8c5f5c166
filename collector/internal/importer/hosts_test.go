package importer

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/importing"
	"github.com/auditfleet/auditfleet/pkg/oldlogs"
)

// A record is one of its host's whatever that is called: no host's record is taken for another's, and none is
// stored twice. Too long a name is of a host that is not told apart from others.
func TestOddHosts(t *testing.T) {
	t.Parallel()
	const rec = "type=USER_LOGIN msg=audit(1764000000.000:7): pid=1\n"
	long := strings.Repeat("n", store.MaxName)
	c := newCollector(t)
	c.once("web1", rec, 1, 1)
	c.once("a name that is a pattern", "node=* "+rec, 1, 1)
	c.once("again", "node=* "+rec+rec, 2, 0)
	c.once("long names", "node="+long+"1 "+rec+"node="+long+"2 "+rec, 2, 2)
	c.once("long names again", "node="+long+"2 "+rec+"node="+long+"1 "+rec+rec, 3, 0)
	var many strings.Builder
	for i := range 3 * manyHosts {
		fmt.Fprintf(&many, "node=%s%d %s", long, 10+i, rec)
	}
	c.once("many long names", many.String(), 3*manyHosts, 3*manyHosts)
	c.once("many long names again", rec+many.String(), 3*manyHosts+1, 0)
	c.once("a long name that has others beside it", "node="+long+"11 "+rec, 1, 0)
}

// A log may be filled with names of hosts: those that are not told apart take no memory each.
func TestManyHosts(t *testing.T) {
	c, dir := newCollector(t), t.TempDir()
	const hosts = 10_000
	var text strings.Builder
	long := strings.Repeat("n", store.MaxName)
	for i := range hosts {
		fmt.Fprintf(&text, "node=%s%d type=USER_LOGIN msg=audit(1764000000.000:7): pid=1\n", long, i)
	}
	path := write(t, filepath.Join(dir, "log"), text.String())
	text.Reset()
	s, err := Begin(t.Context(), Config{Name: "many", Target: c.Head})
	if err != nil {
		t.Fatal(err)
	}
	set, err := oldlogs.Find(t.Context(), oldlogs.Config{Paths: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	sum, err := importing.Read(t.Context(), set, s, importing.Config{})
	if err != nil {
		t.Fatal(err)
	}
	wantSum(t, "many hosts", sum, 1, hosts, hosts)
	if n := len(s.hosts); n > 10 {
		t.Errorf("%d hosts are kept in memory", n)
	}
}

// An import that fails says what it has stored until then.
func TestFailsHalfway(t *testing.T) {
	t.Parallel()
	c, dir := newCollector(t), t.TempDir()
	path := write(t, filepath.Join(dir, "log"), events(0, 5000))
	full, room := errors.New("the disk is full"), 3
	sum, err := c.try(t.Context(), "one", Config{TableBytes: 256 << 10, compareBytes: 64 << 10, Room: func() error {
		if room--; room < 0 {
			return full
		}
		return nil
	}}, path)
	n := int64(len(c.stored("web1")))
	if !errors.Is(err, full) || n == 0 || n == 15000 || sum.Stored < n || sum.Stored > n+mostOpenEvents {
		t.Errorf("%+v, %v: %d records are stored", sum, err, n)
	}
	if sum := c.imports("one", Config{}, path); sum.Stored+n < 15000 || len(c.stored("web1")) != 15000 {
		t.Errorf("%+v: %d records are stored", sum, len(c.stored("web1")))
	}
}
